"""Whether everything is as it should be: models, machine, network. Each finding says what to do."""

"""What every live front end shares, free of ROS: decoding, the stream, statistics, messages, outputs."""

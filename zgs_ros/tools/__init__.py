"""What people run beside the node: cameras to try it with, viewers, the demo; all over the network."""

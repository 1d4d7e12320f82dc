"""The rclpy front end: a lifecycle node around the stream."""

"""Events of rclpy, whose module has another name in Humble."""

from __future__ import annotations

try:
    from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:
    from rclpy.qos_event import SubscriptionEventCallbacks, UnsupportedEventTypeError

__all__ = ["SubscriptionEventCallbacks", "UnsupportedEventTypeError"]

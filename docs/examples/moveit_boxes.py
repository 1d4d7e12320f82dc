"""Boxes around what the zgs node sees, in MoveIt's planning scene: python3 moveit_boxes.py"""

from contextlib import suppress

import rclpy
from geometry_msgs.msg import Pose
from moveit_msgs.msg import CollisionObject
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from shape_msgs.msg import SolidPrimitive
from vision_msgs.msg import Detection3D, Detection3DArray

FORGOTTEN_AFTER = 3.0  # seconds out of sight
IGNORED = {"table", "floor", "wall"}  # what the arm works on, or is in the scene anyway


class MoveItBoxes(Node):
    def __init__(self) -> None:
        super().__init__("moveit_boxes")
        self._seen = {}  # id in the scene -> seconds
        self._scene = self.create_publisher(CollisionObject, "/collision_object", 100)
        self.create_subscription(Detection3DArray, "/zgs/detections_3d", self.take, 10)

    def take(self, message: Detection3DArray) -> None:
        now = self.get_clock().now().nanoseconds * 1e-9
        for detection in message.detections:
            label = detection.results[0].hypothesis.class_id if detection.results else ""
            if detection.id and label not in IGNORED:  # without a track it would get another id
                self._scene.publish(box(detection))
                self._seen[name(detection)] = now
        for key in [key for key, seen in self._seen.items() if now - seen > FORGOTTEN_AFTER]:
            self._scene.publish(CollisionObject(id=key, operation=CollisionObject.REMOVE))
            del self._seen[key]


def name(detection: Detection3D) -> str:
    return f"zgs_{detection.id}"


def box(detection: Detection3D) -> CollisionObject:
    size = detection.bbox.size
    shape = SolidPrimitive(type=SolidPrimitive.BOX, dimensions=[size.x, size.y, size.z])
    return CollisionObject(
        header=detection.header,  # MoveIt needs TF from its frame to the planning frame
        id=name(detection),
        pose=detection.bbox.center,
        primitives=[shape],
        primitive_poses=[Pose()],
        operation=CollisionObject.ADD,
    )


rclpy.init()
with suppress(KeyboardInterrupt, ExternalShutdownException):
    rclpy.spin(MoveItBoxes())

// Prints what the zgs node sees, and where.
#include <memory>

#include <rclcpp/rclcpp.hpp>
#include <zgs_ros/msg/segment_array.hpp>

class Subscriber : public rclcpp::Node
{
public:
  Subscriber() : Node("zgs_subscriber")
  {
    subscription_ = create_subscription<zgs_ros::msg::SegmentArray>(
      "/zgs/segments", 10, [this](const zgs_ros::msg::SegmentArray & message) { show(message); });
  }

private:
  void show(const zgs_ros::msg::SegmentArray & message)
  {
    for (const auto & segment : message.segments) {
      RCLCPP_INFO(get_logger(), "#%u %s %.2f, %u pixels%s", segment.track_id, segment.label.c_str(),
        segment.score, segment.area, segment.position_valid ? "" : ", no position");
      if (segment.position_valid) {  // with depth; metres in message.header.frame_id
        RCLCPP_INFO(get_logger(), "  %.2f m ahead", segment.position.z);
      }
    }
  }

  rclcpp::Subscription<zgs_ros::msg::SegmentArray>::SharedPtr subscription_;
};

int main(int argc, char ** argv)
{
  rclcpp::init(argc, argv);
  rclcpp::spin(std::make_shared<Subscriber>());
  rclcpp::shutdown();
}

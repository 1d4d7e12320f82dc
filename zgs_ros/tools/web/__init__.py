"""A small local web page that shows what a node sees; knows neither ROS nor DDS."""

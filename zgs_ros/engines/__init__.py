"""The models' steps as fixed-shape ONNX files, run by OpenVINO or ONNX Runtime instead of PyTorch."""

"""What others say, as tests: PyTorch's module database and declared errors, ONNX's node tests. For development only.

pip install torch expecttest "onnx~=1.23.2"
python -m ci.oracles.torch_modules [Conv2d ...] [-v]
python -m ci.oracles.torch_errors [-v]
python -m ci.oracles.onnx_nodes [Attention ...] [-v]
python -m ci.oracles.freeze
"""

"""The bytes of a float32 array become a ModelInferRequest; the shape is the argument."""

import sys

from mlserver.grpc.dataplane_pb2 import ModelInferRequest

request = ModelInferRequest(model_name="network")
request.inputs.add(name="images", datatype="FP32", shape=map(int, sys.argv[1].split(",")))
request.raw_input_contents.append(sys.stdin.buffer.read())
sys.stdout.buffer.write(request.SerializeToString())

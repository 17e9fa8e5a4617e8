"""TensorFlow Serving's messages without TensorFlow: protocol buffers, JSON, TFRecords, arrays of NumPy."""

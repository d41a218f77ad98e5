"""Input pipelines and replicas: who gets which part of every global batch, in the words of tf.distribute."""

"""The detection benchmark: this engine and its peers on the same streams, at equal false-alarm rate, in one run."""

"""The models: VGGT, the geometry adapter, the video autoencoder, the transformer and its encoders."""

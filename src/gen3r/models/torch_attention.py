"""Models whose attention is torch's own, whatever the backend."""

from gen3r.errors import InputError


class TorchAttention:
    """A mixin that refuses what diffusers would ignore."""

    def set_attention_backend(self, backend: str) -> None:
        """Refuses: the one attention of these models is that of `torch.nn.functional`.

        Raises:
            InputError: always.
        """
        raise InputError(f"{type(self).__name__} has torch's attention only; set {backend} for transformer and vggt")

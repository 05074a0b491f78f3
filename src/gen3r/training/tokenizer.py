"""The tokenizer of a run: learned from the training captions once, and kept in the run's folder."""

from collections.abc import Callable, Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from gen3r.checkpoints.load import load_tokenizer
from gen3r.files import whole_folder
from gen3r.models.presets import ModelConfig


def kept_tokenizer(folder: Path, captions: Callable[[], Sequence[str]], config: ModelConfig) -> PreTrainedTokenizerBase:
    """The tokenizer in `folder`, which is learned from the captions first if the folder is not there.

    A text encoder is trained for one vocabulary, so later captions must not change it.
    """
    if not folder.is_dir():
        tokenizer = learn_tokenizer(captions(), config)
        with whole_folder(folder) as partial:
            tokenizer.save_pretrained(partial)
    return load_tokenizer(folder)


def learn_tokenizer(captions: Sequence[str], config: ModelConfig) -> PreTrainedTokenizerFast:
    """A byte-pair tokenizer with the vocabulary size of the configuration's text encoder."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.text_encoder["vocab_size"], special_tokens=["<pad>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(captions, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        model_max_length=config.text_length,
    )  # fmt: skip

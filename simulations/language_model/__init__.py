"""A small language model whose samples are real sequences: trained, sampled and scored here.

From text to rewards: ``text.corpus`` → ``text.tokenizers`` → ``transformer`` → ``train`` →
``generate`` → ``rewards``.
"""

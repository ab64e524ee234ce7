"""A small language model whose samples are real sequences: trained, sampled and scored here.

From text to rewards: ``corpus`` → ``tokenizer`` → ``model`` → ``train`` → ``generate`` →
``rewards``.
"""

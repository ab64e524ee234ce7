"""The command line: from a file of scores to what best-of-n gives, in a terminal or a pipe.

``bon-theory --help`` lists the commands. Needs the extra ``cli``.
"""

__all__: list[str] = []

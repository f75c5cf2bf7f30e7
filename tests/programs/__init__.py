"""Programs that tests run by path, in the interpreters of other environments.

They have a folder of their own, since Python looks beside a program first: beside tests/ast it would find that `ast`.
"""

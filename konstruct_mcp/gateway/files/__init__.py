"""Files that a request names by their paths, and that a provider is sent.

reading    finds a file, opens it beneath its root, and reads it; whatever is wrong is kept and told together
contents   what is in a file: a text, an image, a PDF; or something that is not sent
composing  the parts of a message that files become, and where they go
readers    threads in which files are read, since a disk can hang

A caller is told nothing of a file that it may not read: one that is not there, one outside of its roots and one that is
kept back are refused in the same words. No name of a file goes to the log or to the ledger.
"""

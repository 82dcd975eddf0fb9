"""Names of files and folders that are never read for a model, wherever they are: they hold secrets.

A name is compared as a file system may take it that knows no case, folds letters, passes over what is invisible, drops
dots and blanks at the end, or has a short name of eight letters beside the long one. So `.ENV`, `.env.`, `.ｅnv` and
`ENV~1` are all `.env`.
"""

from __future__ import annotations

import fnmatch
import functools
import re
import unicodedata
from collections.abc import Iterable, Sequence

# Patterns of one name, of a file or of a folder that it is in.
KEPT_BACK = (
    # what programs are told in secret
    *(".env*", "*.env", ".netrc", "_netrc", ".pgpass", ".my.cnf", ".npmrc", ".pypirc", ".htpasswd", ".s3cfg", ".boto"),
    *(".git-credentials", ".dockercfg", ".vault-token", ".credentials*", "auth.json", "*.tfstate*"),
    *("application_default_credentials.json", "client_secret*.json", "credentials.db", "access_tokens.db"),
    # keys and stores of keys
    *("id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "*.pem", "*.key", "*.p8", "*.p12", "*.pfx", "*.ppk", "*.jks"),
    *("*.keystore", "*.kdb", "*.kdbx", "*.keychain", "*.keychain-db", "*.keyring", "*.gpg", "*.agekey"),
    # folders
    *(".git", ".ssh", ".aws", ".azure", ".kube", ".docker", ".gnupg", ".gcloud", ".password-store"),
    *("keyrings", "keychains", ".mozilla", ".thunderbird"),
    # what was typed
    *(".*_history", ".*_hist"),
)
_INVISIBLE = ("Cf", "Cc", "Mn")  # categories: formats, controls, and marks such as a variation selector
_SHORT = re.compile(r"([^.~]{1,6})~\d+(\..{0,3})?")  # the short name of a long one, as FAT and NTFS make them


def is_kept_back(parts: Sequence[str], more: Iterable[str] = ()) -> bool:
    """Whether a path, given as its parts, is one that is never read.

    Args:
        more: the operator's own patterns. One with a `/` is compared with the end of the path, any other with each
            name. `*` stands for any text, `?` for a letter, `[…]` for one of several; letters' case does not matter.
    """
    names = [form for part in parts for form in _forms(part)]
    if any(_kept_back().fullmatch(name) for name in names):
        return True
    path = "/".join(_plain(part) for part in parts)
    for pattern in map(_folded, more):
        if "/" in pattern:
            if fnmatch.fnmatchcase("/" + path, "*/" + pattern.strip("/")) or fnmatch.fnmatchcase(
                "/" + path, "*/" + pattern.strip("/") + "/*"
            ):
                return True
        elif any(fnmatch.fnmatchcase(name, pattern) for name in names):
            return True
    return False


@functools.cache
def _kept_back() -> re.Pattern[str]:
    return re.compile("|".join(fnmatch.translate(pattern) for pattern in KEPT_BACK))


def _forms(name: str) -> list[str]:
    """The names that this one may stand for."""
    plain = _plain(name)
    if (short := _SHORT.fullmatch(plain)) is None:
        return [plain]
    stem, ending = short.group(1), short.group(2) or ""
    return [plain, f"{stem}{ending}", f".{stem}{ending}", f".{stem}"]


def _plain(name: str) -> str:
    """A name without what some file system takes for no difference, and without a stream of NTFS (`.env::$DATA`)."""
    folded = _folded(name)
    return (folded.partition(":")[0] or folded).rstrip(". ")


def _folded(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text.lower()
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    return "".join(c for c in folded if unicodedata.category(c) not in _INVISIBLE)

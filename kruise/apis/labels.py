r"""The syntax of names: labels, annotations, DNS names, ports, environment variables.

Purpose: one function per rule of the API machinery, each returning the list of complaints in the words that the API
server uses.

Guarantees: ``\Z`` semantics everywhere: a trailing newline is refused (Python's ``$`` would accept it); lengths are
counted in bytes, as the server does; only ASCII letters and digits count as such.

What this does not do: it builds no field errors by itself except for the maps of labels and annotations.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from kruise.apis.fielderrors import FieldError, invalid, too_long

__all__ = [
    "NameRule",
    "as_prefix",
    "config_key",
    "dns1035_label",
    "dns1123_label",
    "dns1123_subdomain",
    "dns1123_subdomain_with_underscore",
    "env_var_name",
    "http_header_name",
    "in_range",
    "ip_address",
    "label_value",
    "parse_ip",
    "percent",
    "port_name",
    "port_number",
    "prefixed",
    "qualified_name",
    "validate_annotations",
    "validate_labels",
    "wildcard_subdomain",
]

_LABEL_TEXT: Final = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN_TEXT: Final = _LABEL_TEXT + "(\\." + _LABEL_TEXT + ")*"
_QUALIFIED_TEXT: Final = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE_TEXT: Final = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?"
_UNDERSCORE_TEXT: Final = "[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_UNDERSCORE_SUBDOMAIN_TEXT: Final = _UNDERSCORE_TEXT + "(\\." + _UNDERSCORE_TEXT + ")*"
_DNS1035_TEXT: Final = "[a-z]([-a-z0-9]*[a-z0-9])?"
_WILDCARD_TEXT: Final = "\\*\\." + _SUBDOMAIN_TEXT
_ENV_TEXT: Final = "[-._a-zA-Z][-._a-zA-Z0-9]*"
_PERCENT_TEXT: Final = "[0-9]+%"
_CONFIG_KEY_TEXT: Final = "[-._a-zA-Z0-9]+"
_HEADER_TEXT: Final = "[-A-Za-z0-9]+"

_LABEL: Final = re.compile(_LABEL_TEXT)
_SUBDOMAIN: Final = re.compile(_SUBDOMAIN_TEXT)
_QUALIFIED: Final = re.compile(_QUALIFIED_TEXT)
_VALUE: Final = re.compile(_VALUE_TEXT)
_UNDERSCORE_SUBDOMAIN: Final = re.compile(_UNDERSCORE_SUBDOMAIN_TEXT)
_DNS1035: Final = re.compile(_DNS1035_TEXT)
_WILDCARD: Final = re.compile(_WILDCARD_TEXT)
_ENV: Final = re.compile(_ENV_TEXT)
_PERCENT: Final = re.compile(_PERCENT_TEXT)
_CONFIG_KEY: Final = re.compile(_CONFIG_KEY_TEXT)
_HEADER: Final = re.compile(_HEADER_TEXT)
_PORT_CHARS: Final = re.compile("[-a-z0-9]+")
_PORT_LETTER: Final = re.compile("[a-z]")

_LABEL_LIMIT: Final = 63
_SUBDOMAIN_LIMIT: Final = 253
_ANNOTATIONS_LIMIT: Final = 256 * 1024
_PORT_NAME_LIMIT: Final = 15


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _regex_text(message: str, pattern: str, *examples: str) -> str:
    shown = " or ".join(f"'{example}', " for example in examples)[:-2] if examples else ""
    return f"{message} (e.g. {shown}, regex used for validation is '{pattern}')"


def _limit_text(limit: int) -> str:
    return f"must be no more than {limit} characters"


_LABEL_COMPLAINT: Final = _regex_text(
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    "with an alphanumeric character",
    _LABEL_TEXT,
    "my-name",
    "123-abc",
)
_SUBDOMAIN_COMPLAINT: Final = _regex_text(
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    "and end with an alphanumeric character",
    _SUBDOMAIN_TEXT,
    "example.com",
)
_UNDERSCORE_COMPLAINT: Final = _regex_text(
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must "
    "start and end with an alphanumeric character",
    _UNDERSCORE_SUBDOMAIN_TEXT,
    "example.com",
)
_DNS1035_COMPLAINT: Final = _regex_text(
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character",
    _DNS1035_TEXT,
    "my-name",
    "abc-123",
)
_QUALIFIED_COMPLAINT: Final = _regex_text(
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
    _QUALIFIED_TEXT,
    "MyName",
    "my.name",
    "123-abc",
)
_VALUE_COMPLAINT: Final = _regex_text(
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character",
    _VALUE_TEXT,
    "MyValue",
    "my_value",
    "12345",
)
_WILDCARD_COMPLAINT: Final = _regex_text(
    "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of "
    "lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
    _WILDCARD_TEXT,
    "*.example.com",
)
_ENV_COMPLAINT: Final = _regex_text(
    "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and must not "
    "start with a digit",
    _ENV_TEXT,
    "my.env-name",
    "MY_ENV.NAME",
    "MyEnvName1",
)
_PERCENT_COMPLAINT: Final = _regex_text(
    "a valid percent string must be a numeric string followed by an ending '%'", _PERCENT_TEXT, "1%", "93%"
)

_CONFIG_KEY_COMPLAINT: Final = _regex_text(
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
    _CONFIG_KEY_TEXT,
    "key.name",
    "KEY_NAME",
    "key-name",
)
_HEADER_COMPLAINT: Final = _regex_text(
    "a valid HTTP header must consist of alphanumeric characters or '-'", _HEADER_TEXT, "X-Header-Name"
)


def _check(text: str, limit: int, pattern: re.Pattern[str], complaint: str) -> list[str]:
    found = [_limit_text(limit)] if _size(text) > limit else []
    if pattern.fullmatch(text) is None:
        found.append(complaint)
    return found


def dns1123_label(text: str) -> list[str]:
    """Complaints about a DNS label (RFC 1123)."""
    dotted = _SUBDOMAIN.fullmatch(text) is not None
    return _check(text, _LABEL_LIMIT, _LABEL, "must not contain dots" if dotted else _LABEL_COMPLAINT)


def dns1123_subdomain(text: str) -> list[str]:
    """Complaints about a DNS subdomain (RFC 1123), the form of most object names."""
    return _check(text, _SUBDOMAIN_LIMIT, _SUBDOMAIN, _SUBDOMAIN_COMPLAINT)


def dns1123_subdomain_with_underscore(text: str) -> list[str]:
    """Complaints about a DNS subdomain that may have underscores."""
    return _check(text, _SUBDOMAIN_LIMIT, _UNDERSCORE_SUBDOMAIN, _UNDERSCORE_COMPLAINT)


def dns1035_label(text: str) -> list[str]:
    """Complaints about a DNS label that begins with a letter (RFC 1035)."""
    return _check(text, _LABEL_LIMIT, _DNS1035, _DNS1035_COMPLAINT)


def wildcard_subdomain(text: str) -> list[str]:
    """Complaints about ``*.`` followed by a DNS subdomain."""
    return _check(text, _SUBDOMAIN_LIMIT, _WILDCARD, _WILDCARD_COMPLAINT)


def qualified_name(text: str) -> list[str]:
    """Complaints about a label or annotation key: ``name`` or ``dns.prefix/name``."""
    found: list[str] = []
    prefix, slash, name = text.partition("/")
    if not slash:
        name = text
    elif "/" in name:
        return ["a qualified name " + _QUALIFIED_COMPLAINT + " with an optional DNS subdomain prefix and '/' "
                "(e.g. 'example.com/MyName')"]  # fmt: skip
    elif not prefix:
        found.append("prefix part must be non-empty")
    else:
        found += prefixed(dns1123_subdomain(prefix), "prefix part ")
    if not name:
        found.append("name part must be non-empty")
    elif _size(name) > _LABEL_LIMIT:
        found.append("name part " + _limit_text(_LABEL_LIMIT))
    if _QUALIFIED.fullmatch(name) is None:
        found.append("name part " + _QUALIFIED_COMPLAINT)
    return found


def label_value(text: str) -> list[str]:
    """Complaints about a label value; the empty text is fine."""
    return _check(text, _LABEL_LIMIT, _VALUE, _VALUE_COMPLAINT)


def env_var_name(text: str) -> list[str]:
    """Complaints about the name of an environment variable, by the rule that was in force before 1.32 relaxed it."""
    found = [_ENV_COMPLAINT] if _ENV.fullmatch(text) is None else []
    return found + _parent_directory(text)


def _parent_directory(text: str) -> list[str]:
    if text in (".", ".."):
        return [f"must not be '{text}'"]
    return ["must not start with '..'"] if text.startswith("..") else []


def config_key(text: str) -> list[str]:
    """Complaints about a key of a ConfigMap or Secret."""
    found = _check(text, _SUBDOMAIN_LIMIT, _CONFIG_KEY, _CONFIG_KEY_COMPLAINT)
    return found + _parent_directory(text)


def http_header_name(text: str) -> list[str]:
    """Complaints about the name of an HTTP header."""
    return [_HEADER_COMPLAINT] if _HEADER.fullmatch(text) is None else []


def percent(text: str) -> list[str]:
    """Complaints about a percentage: digits followed by ``%``."""
    return [_PERCENT_COMPLAINT] if _PERCENT.fullmatch(text) is None else []


def port_number(value: int) -> list[str]:
    """Complaints about a port number."""
    return in_range(value, 1, 65535)


def port_name(text: str) -> list[str]:
    """Complaints about the name of a container port (an IANA service name)."""
    found: list[str] = []
    if _size(text) > _PORT_NAME_LIMIT:
        found.append(_limit_text(_PORT_NAME_LIMIT))
    if _PORT_CHARS.fullmatch(text) is None:
        found.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if _PORT_LETTER.search(text) is None:
        found.append("must contain at least one letter (a-z)")
    if "--" in text:
        found.append("must not contain consecutive hyphens")
    if text and (text[0] == "-" or text[-1] == "-"):
        found.append("must not begin or end with a hyphen")
    return found


def in_range(value: int, low: int, high: int) -> list[str]:
    """Complaints about a number outside ``low..high``, both included."""
    return [] if low <= value <= high else [f"must be between {low} and {high}, inclusive"]


def parse_ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Read an IP address as the server does: zeros may lead in IPv4, a zone may not follow. ``None``: no address."""
    if not text.isascii() or "%" in text or "/" in text:
        return None
    head, colon, tail = text.rpartition(":")
    if "." in tail:
        parts = tail.split(".")
        if len(parts) != 4 or not all(part.isdigit() and int(part) < 256 for part in parts):
            return None
        text = head + colon + ".".join(str(int(part)) for part in parts)
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def ip_address(text: str) -> list[str]:
    """Complaints about an IPv4 or IPv6 address."""
    return [] if parse_ip(text) is not None else ["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"]


def prefixed(complaints: list[str], prefix: str) -> list[str]:
    """Put *prefix* before each complaint."""
    return [prefix + complaint for complaint in complaints]


def _text_map(values: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Sorted pairs: the server's own order is that of a hash map, which nobody can rely on."""
    return sorted((key, value if isinstance(value, str) else "") for key, value in (values or {}).items())


def validate_labels(labels: Mapping[str, Any] | None, path: str) -> list[FieldError]:
    """Validate a label map, keys and values. All errors stand at *path*."""
    errors: list[FieldError] = []
    for key, value in _text_map(labels):
        errors += [invalid(path, key, complaint) for complaint in qualified_name(key)]
        errors += [invalid(path, value, complaint) for complaint in label_value(value)]
    return errors


def validate_annotations(annotations: Mapping[str, Any] | None, path: str) -> list[FieldError]:
    """Validate an annotation map: keys, and 256 KiB for keys and values together."""
    pairs = _text_map(annotations)
    errors = [
        invalid(path, key, complaint) for key, _ in pairs for complaint in qualified_name(key.lower())
    ]  # the server lowers the key first: an upper-case prefix passes
    if sum(_size(key) + _size(value) for key, value in pairs) > _ANNOTATIONS_LIMIT:
        errors.append(too_long(path, _ANNOTATIONS_LIMIT))
    return errors


NameRule = Callable[[str], list[str]]
"""A rule for the name of an object: text in, complaints out."""


def as_prefix(text: str) -> str:
    """Return *text* as it is checked when something will be appended to it: a trailing hyphen may stand."""
    return text[:-2] + "a" if len(text) > 1 and text.endswith("-") else text

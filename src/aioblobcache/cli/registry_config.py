"""Where a Distribution registry keeps its blobs and its cache, by its own config.yml (of 2.8 or 3.x).

No message repeats what stands in such a file, names apart: what is out of place may be a secret.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import attrs
import yaml

from ..errors import ConfigurationError, one_line

__all__ = ["RegistryPlaces", "places_of", "read_registry_config"]

# What may stand in the storage section beside the driver.
_NO_DRIVERS: Final = frozenset({"cache", "delete", "maintenance", "middleware", "redirect", "tag"})

# Not all of REGISTRY_REDIS_…: Kubernetes sets REGISTRY_REDIS_PORT and more where there is a service registry-redis.
_REDIS_KEYS: Final = "ADDRS?|DB|MASTERNAME|(SENTINEL)?(USERNAME|PASSWORD)|TLS"
_VARIABLE: Final = re.compile(rf"REGISTRY_(REDIS|(STORAGE|REDIS_({_REDIS_KEYS}))(_[^_]*){{0,9}})")
_CREDENTIAL: Final = re.compile(r".*_(A\w+KEY|SECRET(KEY)?|SESSIONTOKEN|(SENTINEL)?(USERNAME|PASSWORD))", re.DOTALL)

_S3_KEYS: Final = {"accesskey": "access_key_id", "secretkey": "secret_access_key", "sessiontoken": "session_token"}
_TRUE: Final = ("true", "t", "1", "yes", "y", "on")
_FALSE: Final = ("false", "f", "0", "no", "n", "off")
_NAME: Final = re.compile(r"[A-Za-z0-9$_][A-Za-z0-9$_.-]{0,254}")
_ADDRESS: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]*)(:[0-9]{1,5})?")


@attrs.frozen
class RegistryPlaces:
    """Where a registry's storage and its Redis are; ``None``: its configuration names none."""

    storage: str | None = None  # URL, as RegistryStorage.from_url takes it
    root: str = ""  # the prefix in an object store
    store_options: dict[str, Any] = attrs.field(factory=dict, repr=False)  # of from_url
    cache: str | None = attrs.field(default=None, repr=False)  # URL, as connect takes it


def read_registry_config(path: Path, environment: Mapping[str, str] = os.environ) -> RegistryPlaces:
    """The places of the registry that this file configures, and the variables ``REGISTRY_…``.

    :raises ConfigurationError: the file cannot be read, is not YAML, or as ``places_of``.
    """
    try:
        return places_of(_loaded(path.read_bytes()), environment)
    except (OSError, ValueError) as error:  # ConfigurationError among them
        raise ConfigurationError(f"{one_line(str(path))}: {getattr(error, 'strerror', None) or error}") from None


def places_of(document: object, environment: Mapping[str, str]) -> RegistryPlaces:
    """The same of a document whose scalars are all text or ``None``; overridden as Distribution's parser.go does it.

    :raises ConfigurationError: no Distribution configuration, or a key of it, which is told, cannot be mapped.
    """
    if not isinstance(document, Mapping) or document.get("version") != "0.1":
        raise ConfigurationError("not a Distribution configuration: that is a mapping with version: 0.1")
    entries: Mapping[object, object] = document
    for variable in filter(_VARIABLE.fullmatch, sorted(environment)):
        entries = _entries(_overridden(entries, variable.split("_")[1:], _value(variable, environment[variable])))
    storage = entries.get("storage")
    whole = _Section("", {**entries, "storage": _entries(storage) if isinstance(storage, str) else storage})
    return RegistryPlaces(*_storage(whole.section("storage")), _cache(whole.section("redis")))


class _Loader(yaml.BaseLoader):
    """Leaves scalars their text, as Go does where text is wanted (0123 is no number), but for null."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"(~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_constructor("tag:yaml.org,2002:null", lambda *_: None)


def _loaded(source: str | bytes) -> object:
    try:
        return _Loader(source).get_single_data()
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:  # whose words quote the source
        mark = getattr(error, "problem_mark", None)
        raise ConfigurationError("not YAML" + (f" in its line {mark.line + 1}" if mark else "")) from None


def _value(variable: str, text: str) -> object:
    """What a variable says, by YAML; but a credential is quoted there or is what it is."""
    if _CREDENTIAL.fullmatch(variable) and not text.lstrip().startswith(("'", '"')):
        return text.strip()
    try:
        return _loaded(text)
    except ConfigurationError:
        raise ConfigurationError(f"{one_line(variable)} in the environment is not YAML") from None


def _overridden(tree: object, path: list[str], value: object) -> object:
    """A tree with another value at a path."""
    if not path:
        return value
    entries, (name, *rest) = _entries(tree), path
    key = next((key for key in entries if rest and str(key).upper() == name.upper()), name.lower())
    return {**entries, key: _overridden(entries.get(key), rest, value)}


def _entries(tree: object) -> Mapping[object, object]:
    """A list by its indexes, as variables name them; and of text, which may be a storage driver's name alone, that."""
    if isinstance(tree, list):
        return {str(at): item for at, item in enumerate(tree)}
    return tree if isinstance(tree, Mapping) else {tree: None} if tree else {}


@attrs.frozen
class _Section:
    """A mapping in the document, and what its keys begin with there. What is null is as if it were not there."""

    prefix: str
    entries: Mapping[object, object] = attrs.field(repr=False)

    def section(self, name: str) -> _Section:
        entries = self.entries.get(name)
        if not isinstance(entries, Mapping | None):
            raise ConfigurationError(f"{self.prefix}{name} is a mapping")
        if entries and "<<" in entries:
            raise ConfigurationError(f"{self.prefix}{name} takes in another mapping by <<: write out what it takes")
        return _Section(f"{self.prefix}{name}.", entries or {})

    def texts(self, name: str) -> list[str]:
        entries = _entries(values := self.entries.get(name))
        if isinstance(values, str) or not all(str(at).isdecimal() for at in entries):
            raise ConfigurationError(f"{self.prefix}{name} is a list")
        return [_Section(self.prefix, {name: entry}).text(name) for entry in entries.values()]

    def text(self, name: str) -> str:
        value = self.entries.get(name)
        # Bytes of the environment that are not UTF-8 come as surrogates, which no URL can hold.
        if not isinstance(value, str | None) or re.search("[\ud800-\udfff]", value or ""):
            raise ConfigurationError(f"{self.prefix}{name} is text")
        return value or ""

    def name(self, name: str) -> str:
        if not _NAME.fullmatch(value := self.text(name)):
            raise ConfigurationError(f"{self.prefix}{name} is {'not a plain name' if value else 'missing'}")
        return value

    def flag(self, name: str, *, default: bool = False) -> bool:
        if (value := self.text(name).lower()) and value not in _TRUE + _FALSE:
            raise ConfigurationError(f"{self.prefix}{name} is true or false")
        return value in _TRUE if value else default

    def options(self, names: Mapping[str, str]) -> dict[str, Any]:
        return {name: self.text(key) for key, name in names.items() if self.text(key)}


def _storage(storage: _Section) -> tuple[str | None, str, dict[str, Any]]:
    drivers = [key if isinstance(key, str) else "" for key in storage.entries if key not in _NO_DRIVERS]
    shown = " and ".join(sorted(key if _NAME.fullmatch(key) else "one without a plain name" for key in drivers))
    if not drivers:
        return None, "", {}
    if len(drivers) > 1:
        raise ConfigurationError(f"storage has one driver, not {shown}: REGISTRY_STORAGE=… replaces that of the file")
    if (read := _DRIVERS.get(drivers[0])) is None:
        raise ConfigurationError(f"the storage driver {shown} cannot be read from outside: {', '.join(_DRIVERS)} can")
    driver = storage.section(drivers[0])
    url, options = read(driver)
    root = "" if read is _filesystem else driver.text("rootdirectory").strip("/")
    return url, root, {name: value for name, value in options.items() if value}


def _filesystem(driver: _Section) -> tuple[str, dict[str, Any]]:
    root = Path(driver.text("rootdirectory") or "/var/lib/registry")
    if not root.is_absolute():
        raise ConfigurationError(f"{driver.prefix}rootdirectory is relative, and to what only the registry knows")
    return root.as_uri(), {}


def _s3(driver: _Section) -> tuple[str, dict[str, Any]]:
    bucket, endpoint = driver.name("bucket"), driver.text("regionendpoint")
    options: dict[str, Any] = {"region": driver.text("region") if endpoint else driver.name("region")}
    if driver.text("accesskey") and driver.text("secretkey"):  # Distribution looks at neither alone
        options |= driver.options(_S3_KEYS)
    # Unless told otherwise, the bucket goes into the path, as in 2.8, which every service understands.
    in_host = not driver.flag("forcepathstyle", default=True)
    if endpoint:
        scheme, _, host = endpoint.rpartition("://")
        scheme = scheme or ("https" if driver.flag("secure", default=True) else "http")
        options["endpoint"] = endpoint = f"{scheme}://{f'{bucket}.' if in_host else ''}{host}"
    client = {"allow_http": endpoint.startswith("http:"), "allow_invalid_certificates": driver.flag("skipverify")}
    return f"s3://{bucket}", {**options, "virtual_hosted_style_request": in_host, "client_options": client}


def _gcs(driver: _Section) -> tuple[str, dict[str, Any]]:
    keyfile, inline = driver.text("keyfile"), driver.section("credentials")
    key = json.dumps({str(name): inline.text(str(name)) for name in inline.entries}) if inline.entries else ""
    return f"gs://{driver.name('bucket')}", {"service_account": keyfile, "service_account_key": "" if keyfile else key}


def _azure(driver: _Section) -> tuple[str, dict[str, Any]]:
    account, credentials = driver.name("accountname"), driver.section("credentials")
    options = driver.options({"accountkey": "account_key", "serviceurl": "endpoint"})
    if driver.text("realm"):
        options.setdefault("endpoint", f"https://{account}.blob.{driver.name('realm')}")
    if credentials.text("type") == "client_secret" and "account_key" not in options:
        options |= credentials.options({"clientid": "client_id", "tenantid": "tenant_id", "secret": "client_secret"})
    return f"az://{driver.name('container')}", {**options, "account_name": account}


_DRIVERS: Final = {"filesystem": _filesystem, "s3": _s3, "s3aws": _s3, "gcs": _gcs, "azure": _azure}


def _cache(redis: _Section) -> str | None:
    """Of the kind that go-redis chooses: the master of a service, a Cluster if there are many addresses, one node."""
    single, many = redis.text("addr"), redis.texts("addrs")
    if single and many and single not in many:
        raise ConfigurationError("redis.addr, which 2.8 reads, is not among redis.addrs, which 3.x reads: keep one")
    if not (addresses := many or ([single] if single else [])):
        return None
    if not re.fullmatch("0|[1-9][0-9]{0,8}", database := redis.text("db") or "0"):
        raise ConfigurationError("redis.db is a whole number")
    tls, service, password = _tls(redis.section("tls")), redis.text("mastername"), redis.text("password")
    user = f"{quote(redis.text('username'), safe='')}:{quote(password, safe='')}@" if password else ""
    if [address[:1] for address in many] == ["/"] and not service and tls is None:
        return f"unix://{user}{quote(many[0])}?db={database}"
    if not all(map(_ADDRESS.fullmatch, addresses)):
        raise ConfigurationError("redis.addr and each of redis.addrs is host:port, an IPv6 address in brackets")
    hosts = ",".join(address if address[:1].strip(":") else f"localhost{address}" for address in addresses)
    scheme, query = "redis" if tls is None else "rediss", tls or {}
    if service:
        kind, path = "+sentinel", f"/{quote(service, safe='')}/{database}"
        if redis.text("sentinelpassword"):
            names = {"sentinelusername": "sentinel_username", "sentinelpassword": "sentinel_password"}
            query |= redis.options(names)
    else:
        kind, path = ("+cluster", "") if len(many) > 1 else ("", f"/{database}")
    return f"{scheme}{kind}://{user}{hosts}{path}{'?' if query else ''}{urlencode(query, quote_via=quote, safe='/')}"


def _tls(tls: _Section) -> dict[str, str] | None:
    """Parameters of a URL; ``None``: no TLS."""
    files = tls.options({"certificate": "ssl_certfile", "key": "ssl_keyfile"})
    if authorities := tls.texts("rootcas") or tls.texts("clientcas"):  # as it was called before 3.1
        files["ssl_ca_certs"] = authorities[0]
    if len(authorities) > 1:
        raise ConfigurationError("redis.tls has one file of authorities: put all of them into one, and name that")
    return files if files or tls.flag("enabled") else None

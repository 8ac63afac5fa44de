"""What a registry's own configuration says of where its storage and its Redis are."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from obstore.store import AzureStore, GCSStore, LocalStore, S3Store
from redis.asyncio import Redis, RedisCluster, SSLConnection
from redis.asyncio.connection import UnixDomainSocketConnection
from redis.asyncio.sentinel import SentinelManagedSSLConnection

from aioblobcache import ConfigurationError
from aioblobcache.cli.registry_config import RegistryPlaces, places_of, read_registry_config
from aioblobcache.redis.client import client_from_url
from aioblobcache.storage import RegistryStorage

SECRET = "hush-hush"
SPECIAL = "p@ss:/?#%w &=+é"

# Distribution's own example for 2.8, but for what is of no interest here.
V2 = """
version: 0.1
log:
  level: debug
storage:
  cache:
    blobdescriptor: redis
  delete:
    enabled: true
  filesystem:
    rootdirectory: /srv/registry
    maxthreads: 100
  maintenance:
    uploadpurging:
      enabled: true
http:
  addr: :5000
redis:
  addr: redis.example:7000
  password: asecret
  db: 3
  dialtimeout: 10ms
  pool:
    maxidle: 16
"""

V3 = """
version: 0.1
storage:
  s3:
    accesskey: key-id
    secretkey: hush-hush
    region: eu-central-1
    bucket: blobs
    rootdirectory: /registry/
  tag:
    concurrencylimit: 8
  redirect:
    disable: false
redis:
  addrs: [one:26379, two]
  username: registry
  password: "p@ss"
  db: 2
  mastername: my blobs
  sentinelusername: watcher
  sentinelpassword: hush-hush
  tls:
    certificate: /etc/redis/client.crt
    key: /etc/redis/client.key
    clientcas: [/etc/redis/ca.crt]
"""


@pytest.fixture
def read(tmp_path):
    """Reads a configuration that is given as text, or as what JSON can say of it."""

    def read(config, **environment: str) -> RegistryPlaces:
        path = tmp_path / "config.yml"
        path.write_text(config if isinstance(config, str) else json.dumps({"version": "0.1", **config}))
        return read_registry_config(path, environment)

    return read


def open_storage(places: RegistryPlaces) -> RegistryStorage:
    return RegistryStorage.from_url(places.storage, places.root, **places.store_options)


def one_node(places: RegistryPlaces) -> dict:
    client = client_from_url(places.cache)
    assert isinstance(client, Redis)
    return client.connection_pool.connection_kwargs


def test_configuration_2_8_gives_a_folder_and_one_server(read):
    places = read(V2)
    assert places == RegistryPlaces("file:///srv/registry", "", {}, "redis://:asecret@redis.example:7000/3")
    kwargs = one_node(places)
    assert (kwargs["host"], kwargs["port"], kwargs["db"]) == ("redis.example", 7000, 3)
    assert (kwargs.get("username"), kwargs["password"]) == (None, "asecret")


def test_configuration_3_gives_a_bucket_and_sentinels(read):
    places = read(V3)
    assert (places.storage, places.root) == ("s3://blobs", "registry")
    assert open_storage(places).layout.base == "registry/docker/registry/v2"
    pool = client_from_url(places.cache).connection_pool
    assert pool.service_name == "my blobs"
    assert pool.connection_class is SentinelManagedSSLConnection
    files = {"ssl_certfile": "/etc/redis/client.crt", "ssl_keyfile": "/etc/redis/client.key"}
    files["ssl_ca_certs"] = "/etc/redis/ca.crt"
    own = pool.connection_kwargs
    assert own.items() >= {"username": "registry", "password": "p@ss", "db": 2, **files}.items()
    theirs = [sentinel.connection_pool.connection_kwargs for sentinel in pool.sentinel_manager.sentinels]
    assert [(their["host"], their["port"]) for their in theirs] == [("one", 26379), ("two", 26379)]
    for their in theirs:
        assert their.items() >= {"username": "watcher", "password": SECRET, **files}.items()


def test_absent_sections_give_none(read):
    assert read({}) == RegistryPlaces()
    assert read({"storage": None, "redis": None}) == RegistryPlaces()
    assert read({"storage": {"cache": {"blobdescriptor": "inmemory"}}, "redis": {}}) == RegistryPlaces()
    assert read({"redis": {"password": "x", "db": 1, "addrs": []}}).cache is None


# Redis


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("example:7000", ("example", 7000)),
        ("my_redis", ("my_redis", 6379)),
        (":7000", ("localhost", 7000)),
        ("10.0.0.1:6379", ("10.0.0.1", 6379)),
        ("[::1]:7000", ("::1", 7000)),
        ("[fd00::1]", ("fd00::1", 6379)),
    ],
)
def test_one_address_gives_a_single_node(read, address, place):
    for redis in ({"addr": address}, {"addrs": [address]}, {"addr": address, "addrs": [address]}):
        places = read({"redis": redis})
        assert places.cache.startswith("redis://")
        kwargs = one_node(places)
        assert (kwargs["host"], kwargs.get("port", 6379), kwargs["db"]) == (*place, 0)


def test_several_addresses_give_a_cluster_without_database(read):
    places = read({"redis": {"addrs": ["10.0.0.1", "10.0.0.2:7000", "[::1]:7001"], "password": SPECIAL, "db": "4"}})
    client = client_from_url(places.cache)
    assert isinstance(client, RedisCluster)
    nodes = client.nodes_manager.startup_nodes
    assert sorted(nodes) == ["10.0.0.1:6379", "10.0.0.2:7000", "::1:7001"]
    assert nodes["10.0.0.1:6379"].connection_kwargs["password"] == SPECIAL


def test_master_name_gives_sentinels_for_any_number_of_addresses(read):
    for addresses in (["one"], ["one", "two:1"]):
        places = read({"redis": {"addrs": addresses, "mastername": "a/b c"}})
        assert places.cache == f"redis+sentinel://{','.join(addresses)}/a%2Fb%20c/0"
        assert client_from_url(places.cache).connection_pool.service_name == "a/b c"


def test_path_as_address_gives_a_unix_socket(read):
    places = read({"redis": {"addrs": ["/run/my redis.sock"], "password": SPECIAL, "db": "1"}})
    pool = client_from_url(places.cache).connection_pool
    assert pool.connection_class is UnixDomainSocketConnection
    assert pool.connection_kwargs.items() >= {"path": "/run/my redis.sock", "password": SPECIAL, "db": 1}.items()


@pytest.mark.parametrize("text", [SPECIAL, "0123", "null ", "%41", "a b", "'\"", "${REDIS_PASSWORD}", "x" * 5000])
def test_credentials_with_special_characters_survive(read, text):
    credentials = {"username": text, "password": text, "sentinelusername": text, "sentinelpassword": text}
    kwargs = one_node(read({"redis": {"addr": "x", **credentials}}))
    assert (kwargs["username"], kwargs["password"]) == (text, text)
    pool = client_from_url(read({"redis": {"addrs": ["x"], "mastername": "m", **credentials}}).cache).connection_pool
    assert (pool.connection_kwargs["username"], pool.connection_kwargs["password"]) == (text, text)
    [sentinel] = pool.sentinel_manager.sentinels
    theirs = sentinel.connection_pool.connection_kwargs
    assert (theirs["username"], theirs["password"]) == (text, text)


def test_numeric_password_keeps_its_text(read):
    assert one_node(read("version: 0.1\nredis: {addr: x, password: 0123}"))["password"] == "0123"
    assert one_node(read("version: 0.1\nredis: {addr: x, password: 1e3}"))["password"] == "1e3"
    assert one_node(read("version: 0.1\nredis: {addr: x, password: yes}"))["password"] == "yes"
    assert one_node(read("version: 0.1\nredis: {addr: x, password: '~'}"))["password"] == "~"
    assert read("version: 0.1\nredis: {addr: x, password: ~}").cache == "redis://x/0"


def test_username_without_password_is_ignored_like_go_redis(read):
    places = read({"redis": {"addrs": ["x"], "mastername": "m", "username": "u", "sentinelusername": "s"}})
    assert places.cache == "redis+sentinel://x/m/0"


def test_tls_settings_enable_tls(read):
    for tls in ({"clientcas": ["/ca"]}, {"rootcas": ["/ca"], "clientcas": ["/other", "/another"]}):
        pool = client_from_url(read({"redis": {"addrs": ["x"], "tls": tls}}).cache).connection_pool
        assert pool.connection_class is SSLConnection
        assert pool.connection_kwargs["ssl_ca_certs"] == "/ca"
    tls = {"certificate": "/a b.crt", "key": "/a+b.key"}
    kwargs = one_node(read({"redis": {"addrs": ["x"], "tls": tls}}))
    assert (kwargs["ssl_certfile"], kwargs["ssl_keyfile"]) == ("/a b.crt", "/a+b.key")
    assert read({"redis": {"addrs": ["x", "y"], "tls": {"enabled": "true"}}}).cache == "rediss+cluster://x,y"


@pytest.mark.parametrize("tls", [None, {}, {"certificate": None, "clientcas": []}, {"enabled": "false"}])
def test_empty_tls_settings_do_not_enable_tls(read, tls):
    assert read({"redis": {"addrs": ["x"], "tls": tls}}).cache == "redis://x/0"


# Storage


def test_folder_with_special_characters_is_opened(read, tmp_path):
    folder = tmp_path / "my registry%20#?"
    folder.mkdir()
    storage = open_storage(read({"storage": {"filesystem": {"rootdirectory": str(folder)}}}))
    assert isinstance(storage.store, LocalStore)
    assert Path(storage.store.prefix) == folder
    assert storage.layout.root == ""


@pytest.mark.parametrize("storage", ["filesystem", {"filesystem": None}, {"filesystem": {}, "delete": None}])
def test_default_folder_is_that_of_distribution(read, storage):
    assert read({"storage": storage}) == RegistryPlaces("file:///var/lib/registry")


S3 = {"bucket": "blobs", "region": "eu-central-1"}


@pytest.mark.parametrize("driver", ["s3", "s3aws"])
def test_s3_credentials_become_store_options(read, driver):
    keys = {"accesskey": "0123", "secretkey": SECRET, "sessiontoken": "token"}
    places = read({"storage": {driver: {**S3, **keys, "rootdirectory": "/a/b"}}})
    assert (places.storage, places.root) == ("s3://blobs", "a/b")
    store = open_storage(places).store
    assert isinstance(store, S3Store)
    given = {"access_key_id": "0123", "secret_access_key": SECRET, "session_token": "token"}
    assert store.config == {"bucket": "blobs", "region": "eu-central-1", **given}


def test_incomplete_s3_keys_leave_credentials_to_the_environment(read):
    places = read({"storage": {"s3": {**S3, "accesskey": "key-id"}}})
    assert open_storage(places).store.config == {"bucket": "blobs", "region": "eu-central-1"}


@pytest.mark.parametrize(
    ("parameters", "endpoint", "allow_http"),
    [
        ({"regionendpoint": "http://minio:9000"}, "http://minio:9000", True),
        ({"regionendpoint": "https://minio:9000", "secure": "false"}, "https://minio:9000", False),
        ({"regionendpoint": "minio:9000"}, "https://minio:9000", False),
        ({"regionendpoint": "minio:9000", "secure": "true"}, "https://minio:9000", False),
        ({"regionendpoint": "minio:9000", "secure": "False"}, "http://minio:9000", True),
        ({"regionendpoint": "minio", "forcepathstyle": "true"}, "https://minio", False),
        ({"regionendpoint": "minio", "forcepathstyle": "false"}, "https://blobs.minio", False),
        ({"regionendpoint": "http://minio:9000", "forcepathstyle": "no"}, "http://blobs.minio:9000", True),
    ],
)
def test_s3_endpoint_gets_a_scheme_and_path_style(read, parameters, endpoint, allow_http):
    places = read({"storage": {"s3": {"bucket": "blobs", **parameters}}})
    store = open_storage(places).store
    assert store.config["endpoint"] == endpoint
    assert ("virtual_hosted_style_request" in store.config) is ("//blobs." in endpoint)
    assert places.store_options["client_options"]["allow_http"] is allow_http


def test_virtual_hosted_style_works_without_an_endpoint(read):
    options = read({"storage": {"s3": {**S3, "forcepathstyle": "false"}}}).store_options
    assert options["virtual_hosted_style_request"] is True
    assert "endpoint" not in options


@pytest.mark.parametrize(("said", "accepted"), [("true", True), ("1", True), ("false", False), (None, False)])
def test_skipverify_disables_certificate_checks(read, said, accepted):
    places = read({"storage": {"s3": {**S3, "skipverify": said}}})
    assert places.store_options["client_options"]["allow_invalid_certificates"] is accepted
    open_storage(places)


def test_gcs_key_is_read_from_a_file_or_inline(read, tmp_path):
    key = {"gcs_base_url": "https://localhost", "disable_oauth": True, "client_email": "", "private_key": ""}
    keyfile = tmp_path / "key.json"
    keyfile.write_text(json.dumps({**key, "private_key_id": ""}))
    places = read({"storage": {"gcs": {"bucket": "blobs", "keyfile": str(keyfile), "rootdirectory": "/a/"}}})
    assert (places.storage, places.root) == ("gs://blobs", "a")
    assert isinstance(open_storage(places).store, GCSStore)
    assert open_storage(places).store.config["service_account"] == str(keyfile)
    inline = {"type": "service_account", "private_key": SECRET}
    places = read({"storage": {"gcs": {"bucket": "blobs", "credentials": inline}}})
    assert json.loads(places.store_options["service_account_key"]) == inline
    assert read({"storage": {"gcs": {"bucket": "blobs"}}}).store_options == {}


AZURE = {"accountname": "account", "container": "blobs"}


@pytest.mark.parametrize(
    ("parameters", "options"),
    [
        ({"accountkey": "a2V5"}, {"account_key": "a2V5"}),
        ({"accountkey": "a2V5", "credentials": {"type": "client_secret", "secret": "x"}}, {"account_key": "a2V5"}),
        ({"realm": "core.chinacloudapi.cn"}, {"endpoint": "https://account.blob.core.chinacloudapi.cn"}),
        ({"realm": "a.b", "serviceurl": "https://x.y"}, {"endpoint": "https://x.y"}),
        ({"credentials": {"type": "default_credentials"}}, {}),
        (
            {"credentials": {"type": "client_secret", "clientid": "i", "tenantid": "t", "secret": SECRET}},
            {"client_id": "i", "tenant_id": "t", "client_secret": SECRET},
        ),
    ],
)
def test_azure_account_becomes_store_options(read, parameters, options):
    places = read({"storage": {"azure": {**AZURE, **parameters, "rootdirectory": "/a"}}})
    assert (places.storage, places.root) == ("az://blobs", "a")
    store = open_storage(places).store
    assert isinstance(store, AzureStore)
    assert store.config == {"account_name": "account", "container_name": "blobs", **options}


# The environment


def test_environment_variables_override_the_file(read):
    environment = {
        "REGISTRY_REDIS_ADDR": "other:1",
        "REGISTRY_REDIS_DB": "7",
        "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": "/elsewhere",
        "REGISTRY_STORAGE_CACHE_BLOBDESCRIPTOR": "inmemory",
        "REGISTRY_HTTP_ADDR": "[",
        "HOME": "/root",
    }
    assert read(V2, **environment) == RegistryPlaces("file:///elsewhere", cache="redis://:asecret@other:1/7")


def test_environment_variables_alone_are_enough(read):
    environment = {
        "REGISTRY_STORAGE": "s3",
        "REGISTRY_STORAGE_S3_BUCKET": "blobs",
        "REGISTRY_STORAGE_S3_REGION": "eu-central-1",
        "REGISTRY_REDIS_ADDRS": "[one, two]",
        "REGISTRY_REDIS_TLS_CLIENTCAS": "[/ca]",
    }
    places = read("version: 0.1", **environment)
    assert (places.storage, places.store_options["region"]) == ("s3://blobs", "eu-central-1")
    assert places.cache == "rediss+cluster://one,two?ssl_ca_certs=/ca"
    assert read(V2, **environment, REGISTRY_REDIS="{addrs: [x]}").storage == "s3://blobs"


def test_environment_variables_index_into_lists(read):
    redis = {"redis": {"addrs": ["one", "two"]}}
    assert read(redis, REGISTRY_REDIS_ADDRS_0="x").cache == "redis+cluster://x,two"
    assert read(redis, REGISTRY_REDIS_ADDRS_2="x:1").cache == "redis+cluster://one,two,x:1"
    assert read({}, REGISTRY_REDIS_ADDRS_0="x").cache == "redis://x/0"


def test_environment_variables_match_keys_without_case(read):
    storage = {"storage": {"FileSystem": {"rootdirectory": "/a"}}}
    with pytest.raises(ConfigurationError, match="FileSystem"):
        read(storage, REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY="/b")
    assert read({"redis": None}, REGISTRY_REDIS_ADDR="x").cache == "redis://x/0"
    assert read({"redis": {"TLS": {}}}, REGISTRY_REDIS_ADDR="x", REGISTRY_REDIS_TLS_KEY="/k").cache == "redis://x/0"


@pytest.mark.parametrize(
    ("value", "password"),
    [
        ("0123", "0123"),
        ("'0123'", "0123"),
        ('"a\\tb"', "a\tb"),
        (" padded\n", "padded"),
        ("null", "null"),
        ("@at", "@at"),
        ("a: b", "a: b"),
        ("[x", "[x"),
        ("a #b", "a #b"),
        (SPECIAL, SPECIAL),
    ],
)
def test_environment_password_is_literal_text_unless_quoted(read, value, password):
    assert one_node(read({"redis": {"addr": "x"}}, REGISTRY_REDIS_PASSWORD=value))["password"] == password
    keys = {"REGISTRY_STORAGE_S3_ACCESSKEY": value, "REGISTRY_STORAGE_S3_SECRETKEY": value}
    options = read({"storage": {"s3": S3}}, **keys).store_options
    assert (options["access_key_id"], options["secret_access_key"]) == (password, password)


def test_empty_environment_password_removes_the_one_in_the_file(read):
    assert read(V2, REGISTRY_REDIS_PASSWORD="").cache == "redis://redis.example:7000/3"


def test_kubernetes_service_variables_are_ignored(read):
    environment = {
        "REGISTRY_REDIS_PORT": "tcp://10.0.0.1:6379",
        "REGISTRY_REDIS_PORT_6379_TCP_ADDR": "10.0.0.1",
        "REGISTRY_REDIS_SERVICE_HOST": "10.0.0.1",
        "REGISTRY_PORT": "tcp://10.0.0.2:5000",
    }
    assert read(V2, **environment) == read(V2)
    assert read({}, **environment) == RegistryPlaces()


def test_second_driver_must_replace_the_one_in_the_file(read):
    other = {"REGISTRY_STORAGE_S3_BUCKET": "blobs", "REGISTRY_STORAGE_S3_REGION": "eu-central-1"}
    with pytest.raises(ConfigurationError, match="not filesystem and s3: REGISTRY_STORAGE="):
        read(V2, **other)
    assert read(V2, **other, REGISTRY_STORAGE="s3").storage == "s3://blobs"
    assert read({"storage": "filesystem"}, **other, REGISTRY_STORAGE="{s3: {}}").storage == "s3://blobs"
    with pytest.raises(ConfigurationError, match="not filesystem and s3"):
        read({"storage": "filesystem"}, **other)


# What is refused


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("", "not a Distribution configuration"),
        ("- version: 0.1", "not a Distribution configuration"),
        ("text", "not a Distribution configuration"),
        ("storage: filesystem", "not a Distribution configuration"),
        ("version: 0.2", "not a Distribution configuration"),
        ("version: [0.1]", "not a Distribution configuration"),
        ("version: 0.1\nredis: [", "not YAML in its line 2"),
        ("version: 0.1\n---\nversion: 0.1", "not YAML"),
        ("version: '\\x01\x01'", "not YAML"),
        ('version: "\\UFFFFFFFF"', "not YAML"),
        ("[" * 100_000, "not YAML"),
        ("a: &a [*a]", "not YAML"),
        ("version: 0.1\nredis: 5", "redis is a mapping"),
        ("version: 0.1\nredis: [a]", "redis is a mapping"),
        ("version: 0.1\nx: &x {addr: y}\nredis: {<<: *x}", "redis takes in another mapping"),
        ("version: 0.1\nstorage: [filesystem]", "storage is a mapping"),
    ],
)
def test_invalid_configuration_documents_are_refused(read, config, said):
    with pytest.raises(ConfigurationError, match=said) as caught:
        read(config)
    assert "config.yml: " in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("redis", "said"),
    [
        ({"addrs": "a:1"}, "redis.addrs is a list"),
        ({"addrs": {"a": "b"}}, "redis.addrs is a list"),
        ({"addrs": [["a"]]}, "redis.addrs is text"),
        ({"addr": ["a"]}, "redis.addr is text"),
        ({"addr": "a", "addrs": ["b"]}, "keep one"),
        ({"addr": "redis://a"}, "host:port"),
        ({"addr": "/run/redis.sock"}, "host:port"),
        ({"addrs": ["/run/redis.sock", "a"]}, "host:port"),
        ({"addrs": ["/run/redis.sock"], "tls": {"clientcas": ["/ca"]}}, "host:port"),
        ({"addr": "::1"}, "host:port"),
        ({"addr": "a:b"}, "host:port"),
        ({"addr": "a,b"}, "host:port"),
        ({"addr": "user@a"}, "host:port"),
        ({"addr": "a", "db": "-1"}, "redis.db"),
        ({"addr": "a", "db": "010"}, "redis.db"),  # 8 to Go
        ({"addr": "a", "db": "first"}, "redis.db"),
        ({"addr": "a", "db": "9" * 5000}, "redis.db"),
        ({"addr": "a", "db": {}}, "redis.db"),
        ({"addr": "a", "password": {}}, "redis.password is text"),
        ({"addr": "a", "password": "\ud800"}, "redis.password is text"),
        ({"addr": "a", "tls": "yes"}, "redis.tls is a mapping"),
        ({"addr": "a", "tls": {"enabled": "maybe"}}, "redis.tls.enabled is true or false"),
        ({"addr": "a", "tls": {"rootcas": "/ca"}}, "redis.tls.rootcas is a list"),
        ({"addr": "a", "tls": {"rootcas": ["/ca", "/other"]}}, "put all of them into one"),
    ],
)
def test_invalid_redis_settings_name_their_key(read, redis, said):
    with pytest.raises(ConfigurationError, match=said):
        read({"redis": redis})


@pytest.mark.parametrize(
    ("storage", "said"),
    [
        ("inmemory", "storage driver inmemory cannot be read from outside"),
        ({"swift": {}}, "storage driver swift cannot be read from outside"),
        ({"s3": S3, "gcs": {}}, "not gcs and s3"),
        ({"filesystem": "/var/lib/registry"}, "storage.filesystem is a mapping"),
        ({"filesystem": {"rootdirectory": "registry"}}, "storage.filesystem.rootdirectory is relative"),
        ({"filesystem": {"rootdirectory": ["a"]}}, "storage.filesystem.rootdirectory is text"),
        ({"s3": {"region": "x"}}, "storage.s3.bucket is missing"),
        ({"s3": {"bucket": "a/b"}}, "storage.s3.bucket is not a plain name"),
        ({"s3aws": {"bucket": "b"}}, "storage.s3aws.region is missing"),
        ({"s3": {**S3, "skipverify": "never"}}, "storage.s3.skipverify is true or false"),
        ({"gcs": {}}, "storage.gcs.bucket is missing"),
        ({"azure": {"accountname": "a"}}, "storage.azure.container is missing"),
        ({"azure": {"container": "a"}}, "storage.azure.accountname is missing"),
        ({"azure": {**AZURE, "realm": "a/b"}}, "storage.azure.realm is not a plain name"),
        ({"azure": {**AZURE, "credentials": []}}, "storage.azure.credentials is a mapping"),
    ],
)
def test_invalid_storage_settings_name_their_key(read, storage, said):
    with pytest.raises(ConfigurationError, match=said):
        read({"storage": storage})


def test_malformed_environment_variable_is_named(read):
    with pytest.raises(ConfigurationError, match="REGISTRY_STORAGE_S3_BUCKET in the environment is not YAML"):
        read(V3, REGISTRY_STORAGE_S3_BUCKET="[" + SECRET)
    with pytest.raises(ConfigurationError, match="REGISTRY_REDIS_PASSWORD in the environment is not YAML"):
        read(V3, REGISTRY_REDIS_PASSWORD=f"'{SECRET}")


@pytest.mark.parametrize("name", ["missing.yml", ".", "a\0b", "x" * 5000])
def test_unreadable_file_is_named(tmp_path, name):
    with pytest.raises(ConfigurationError) as caught:
        read_registry_config(tmp_path / name, {})
    assert str(tmp_path) in str(caught.value)
    assert len(str(caught.value)) < 400


def test_nested_yaml_aliases_are_not_expanded(read):
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 60)]
    levels += ["version: 0.1", "storage: {s3: {bucket: *a59}}"]
    with pytest.raises(ConfigurationError, match=r"storage\.s3\.bucket is text"):
        read("\n".join(levels))


# Secrets

SECRETS = {
    "storage": {
        "s3": {**S3, "accesskey": "key-id", "secretkey": SECRET, "sessiontoken": SECRET, "regionendpoint": "minio"}
    },
    "redis": {
        "addrs": ["one", "two"],
        "mastername": "blobs",
        "username": "registry",
        "password": SECRET,
        "sentinelpassword": SECRET,
    },
}


def test_representations_hide_secrets(read):
    azure = {"storage": {"azure": {**AZURE, "accountkey": SECRET}}, "redis": {"addr": "x", "password": SECRET}}
    for config in (SECRETS, azure):
        places = read(config)
        assert SECRET in f"{places.store_options}"
        assert SECRET in places.cache
        assert SECRET not in repr(places) + str(places)


@pytest.mark.parametrize(
    "config",
    [
        {**SECRETS, "version": "2"},
        {**SECRETS, "redis": SECRET},
        {**SECRETS, "redis": [SECRET]},
        {**SECRETS, "redis": {"addr": f"redis://:{SECRET}@x"}},
        {**SECRETS, "redis": {"addr": f":{SECRET}@x:6379"}},
        {**SECRETS, "redis": {"addrs": SECRET}},
        {**SECRETS, "redis": {"addr": "x", "db": SECRET}},
        {**SECRETS, "redis": {"addr": "x", "password": [SECRET]}},
        {**SECRETS, "redis": {"addrs": ["x"], "mastername": "m", "sentinelpassword": {SECRET: SECRET}}},
        {**SECRETS, "redis": {"addr": "x", "tls": {"enabled": SECRET}}},
        {**SECRETS, "storage": f"s3://key:{SECRET}@bucket"},
        {**SECRETS, "storage": {"s3": S3, f"{SECRET}/": None}},
        {**SECRETS, "storage": {"s3": SECRET}},
        {**SECRETS, "storage": {"s3": {**S3, "accesskey": "x", "secretkey": [SECRET]}}},
        {**SECRETS, "storage": {"s3": {**S3, "skipverify": SECRET}}},
        {**SECRETS, "storage": {"s3": {"bucket": f"{SECRET}@x"}}},
        {**SECRETS, "storage": {"azure": {**AZURE, "accountkey": {"a": SECRET}}}},
        {**SECRETS, "storage": {"azure": {**AZURE, "realm": f"{SECRET}/"}}},
        {**SECRETS, "storage": {"gcs": {"bucket": "b", "credentials": SECRET}}},
        f"version: 0.1\nredis: {{password: {SECRET}: x}}\n\tx",
        f"version: 0.1\nredis: {{password: *{SECRET}}}",
        f"version: 0.1\nredis: {{password: &{SECRET} !{SECRET}!x y, x: &{SECRET} [",
        f'version: 0.1\nredis: {{password: "{SECRET}',
        f"version: 0.1\nredis: {{password: {SECRET}\x01}}",
    ],
)
def test_errors_hide_secrets(read, config):
    with pytest.raises(ConfigurationError) as caught:
        read(config)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


# Whatever there is

KEYS = ["storage", "redis", "filesystem", "s3", "gcs", "azure", "addr", "addrs", "db", "password", "mastername", "tls"]
KEYS += [
    "clientcas",
    "enabled",
    "certificate",
    "bucket",
    "region",
    "regionendpoint",
    "secure",
    "accountname",
    "0",
    "<<",
]
KEYS += [
    "container",
    "rootdirectory",
    "cache",
    "credentials",
    "sentinelpassword",
    "sentinelusername",
    "username",
    "type",
]
texts = st.sampled_from(["", "x", "x:1", "/x", "[::1]:1", "0", "7", "true", "filesystem", SPECIAL, "\ud800", "\0"])
documents = st.recursive(
    texts | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.none(), inner, max_size=5),
    max_leaves=20,
)
variables = st.lists(st.sampled_from(KEYS).map(str.upper), min_size=1, max_size=4).map(
    lambda names: "_".join(["REGISTRY", *names])
)


@given(
    st.dictionaries(st.sampled_from(KEYS), documents, max_size=5),
    st.dictionaries(st.sampled_from(["redis", "storage"]), documents),
    st.dictionaries(variables, texts | st.sampled_from(["[x, y]", "{addr: x}", "[", "'", "~"]), max_size=5),
)
def test_any_document_is_accepted_or_refused(rest, sections, environment):
    try:
        places = places_of({**rest, **sections, "version": "0.1"}, environment)
    except ConfigurationError:
        return
    if places.cache is not None:
        client_from_url(places.cache)


redis_sections = st.fixed_dictionaries(
    {"addrs": st.lists(st.sampled_from(["x", "x:1", ":1", "[::1]"]), min_size=1, max_size=3)},
    optional={
        "username": st.text(),
        "password": st.text(),
        "mastername": st.text(),
        "sentinelusername": st.text(),
        "sentinelpassword": st.text(),
        "db": st.integers(0, 15).map(str),
        "tls": st.fixed_dictionaries({"certificate": st.just("/a b"), "key": st.just("/c+d")}),
    },
)


@given(redis_sections)
def test_any_credentials_survive_the_cache_url(redis):
    places = places_of({"version": "0.1", "redis": redis}, {})
    client = client_from_url(places.cache)
    if isinstance(client, RedisCluster):
        [node, *_] = client.nodes_manager.startup_nodes.values()
        kwargs = node.connection_kwargs
    else:
        kwargs = client.connection_pool.connection_kwargs
        assert kwargs["db"] == int(redis.get("db", "0"))
    password = redis.get("password") or None
    assert (kwargs.get("password") or None) == password
    assert (kwargs.get("username") or None) == ((redis.get("username") or None) if password else None)
    assert ("ssl_certfile" in kwargs) is ("tls" in redis)


@given(source=st.binary(max_size=60) | st.text("[]{}&*!|>'\"%@`-:#,? \n\tax0", max_size=60).map(str.encode))
def test_any_file_is_accepted_or_refused(tmp_path_factory, source):
    path = tmp_path_factory.getbasetemp() / "any.yml"
    path.write_bytes(b"version: 0.1\n" + source)
    with suppress(ConfigurationError):
        read_registry_config(path, {})

"""The serializers that scripts and stored experiments know by name."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import zlib
from pathlib import Path
from typing import Any

import fiddle as fdl
import pytest
import yaml
from fiddle._src.experimental.serialization import PyrefPolicy, dump_json
from hypothesis import given

import nemo_run as run
from nemo_run.core.serialization.yaml import YamlSerializer
from nemo_run.core.serialization.zlib_json import ZlibJSONSerializer, unpack
from nemo_run.errors import SerializationError
from tests.config.stored import QUICK, Important, Model, Node, Size, all_configs, plain, same

# Written by nemo_run 0.11.1 from the configuration below.
WRITTEN_BY_NEMO_RUN = (
    "eJzdWN1vmzAQ_1civzSTIhQgeZnaSt1UTdXWaVr3xhAyYFo2x46MqUqr_O-z-QoE44CIom15QPHh-935vnzHG2CUcvB-"
    "9gZ4tkXiD2AoAosZ-"
    "I0yuSI0RJ4JdoJC_V8o4EmxOd1iSW8w7hG2WYmxoWGKc5KfxpjHJJFUAjc5LcfIkWOONhLXccAdCdHLPJbPq-"
    "U7uT2JXxFwXQmHOAwhh2InSTGWnGEc8IlqSIi2FgeyTnpC1Tnqg1j_wUEkewh9ER2cwWfEEsS8at8IT0VxGGJkeAkLjICSKH5s6v"
    "OhEvKjknFfqXIQTzecs7lku7qIiEeZF-DkQsaVVjpHCU9KuUbCKUNhU_y9SAoMdsIELQGQPaYbRLgnl4dS2mlV5U8_BoePeogy9P"
    "sRnmKpeXYcxBIgfaFyWt_sChyER0QCQRvqsZQoRH0sKP0ul7Xj4PwYwVzAM8SpJNji_xbyp5wZXMpyeG1AI6864lVJ8J2lW9Bcja"
    "3atj2SCTul4AOZQtyiipZp1WFYte23k6lS13dMt9Ayj8ImnKmHAy-gF9B0FVaWBaaPo7BSgqZeBQLh0EIPiN9iJPNprj-QpVbOcp"
    "1LATtDBcj1uKNZ5dGwSOWJZ5MQI9zfDuUqZ4-"
    "6WVXlLAWbpWMrHNllsltMoy3gZ6Ksd0wQCq_EPBvmZPAzXYqffEZRTwDb41w8bnuzHtjn676UXgcR0fdl0xTstjMO-"
    "IyyuQgSZWEff40_CBDjy833T7dKVwZOIaYub7X0iEyWvcUwJn1iBb4qKvRpZqtvlKAZMqtzhAzsixe_-"
    "yKvAyDojaOI0VdEplf2GmdwfR_v0rvNljIOCe-2U9VxCi-sz-"
    "QFXW5OiwRtbkJtx9n06MgIX4P9qDTNhv_AqDS82_urR6WvonM4waS0mjwp6RAGT0rrs05K5beXEwxK3yDjMcQaj-uTtt3_Ndh8LV"
    "vZtna4guOWtocXhyNppLoVxZ0oyQInoCnpfNMyF40vS_XCKhdHv3CYrSnXag1wZmNQMZudvdnq62qhduvVqly1r8X9-"
    "3WTddVcrIcoXylYB54prSR3xZRIUy-NpSH8-QfYeU7L"
)


def written() -> Any:
    shared = run.Config(Model, size=3)
    config = run.Partial(Node, a=shared, b=[shared, (1, "x"), {2}, b"\x00\xff"], c={"size": Size.LARGE, "fn": plain})
    fdl.add_tag(config, "a", Important)
    return config


@QUICK
@given(all_configs())
def test_zlib_json(config: Any) -> None:
    text = ZlibJSONSerializer().serialize(config)
    assert text.isascii()
    assert not set(text) & set(" \n/+'\"$")
    assert same(ZlibJSONSerializer().deserialize(text), config)


def test_zlib_json_reads_what_nemo_run_wrote() -> None:
    assert same(ZlibJSONSerializer().deserialize(WRITTEN_BY_NEMO_RUN), written())


def test_zlib_json_is_short() -> None:
    assert len(ZlibJSONSerializer().serialize(written())) < len(WRITTEN_BY_NEMO_RUN) / 2


def test_what_nemo_run_wrote_runs_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    hostile = dump_json(fdl.Config(plain, a=["touch", str(marker)]))
    hostile = hostile.replace('"tests.config.stored", "name": "plain"', '"subprocess", "name": "check_call"')
    text = base64.urlsafe_b64encode(zlib.compress(hostile.encode())).decode()
    assert ZlibJSONSerializer().deserialize(text).__fn_or_cls__ is subprocess.check_call
    assert not marker.exists()


@pytest.mark.parametrize(
    "text",
    ["", "?", "abc", base64.urlsafe_b64encode(b"abc").decode(), base64.urlsafe_b64encode(zlib.compress(b"{")).decode()],
)
def test_damage_is_told(text: str) -> None:
    with pytest.raises(SerializationError, match="not a stored configuration, or it is damaged"):
        ZlibJSONSerializer().deserialize(text)


def test_damage_in_what_fiddle_wrote_is_told() -> None:
    text = base64.urlsafe_b64encode(zlib.compress(b'{"root": 1, "objects": 2, "refcounts": 3, "version": "4", "x": 5}'))
    assert ZlibJSONSerializer().deserialize(text.decode()) == 1
    text = base64.urlsafe_b64encode(
        zlib.compress(b'{"root": {"type": "ref", "key": "no"}, "objects": {}, "refcounts": {}, "version": ""}')
    )
    with pytest.raises(SerializationError, match="cannot load this configuration, stored by fiddle"):
        ZlibJSONSerializer().deserialize(text.decode())


class OnlyOurs(PyrefPolicy):
    def allows_import(self, module: str, symbol: str) -> bool:
        return module == "tests.config.stored"

    def allows_value(self, value: Any) -> bool:
        return value is not Node


def test_a_policy_says_what_may_be_in_it() -> None:
    serializer, policy = ZlibJSONSerializer(), OnlyOurs()
    allowed = serializer.serialize(run.Config(plain, a=Model), policy)
    assert serializer.deserialize(allowed, policy) == run.Config(plain, a=Model)
    for config in (run.Config(plain, a=print), run.Config(Node)):
        with pytest.raises(SerializationError):
            serializer.serialize(config, policy)
        with pytest.raises(SerializationError):
            serializer.deserialize(serializer.serialize(config), policy)


def test_the_document_is_there_without_imports() -> None:
    text = base64.urlsafe_b64encode(zlib.compress(json.dumps({"_target_": "not_there.f"}).encode())).decode()
    assert unpack(text) == {"_target_": "not_there.f"}


def test_yaml() -> None:
    stream = io.StringIO()
    text = YamlSerializer().serialize(written(), stream)
    assert stream.getvalue() == text
    assert yaml.safe_load(text)["_target_"]  # tags stand around it
    assert same(YamlSerializer().deserialize(text), written())


def test_yaml_as_nemo_run_wrote_it() -> None:
    text = """
        _partial_: true
        _target_: tests.config.stored.Node
        a:
          _target_: tests.config.stored.Model
          size: 3
        b: !!set {1: null}
        c:
          _call_: false
          _target_: tests.config.stored.plain
    """
    expected = run.Partial(Node, a=run.Config(Model, size=3), b={1}, c=plain)
    assert same(YamlSerializer().deserialize(text), expected)

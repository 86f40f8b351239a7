"""F20, F53: what a target of `deliver` may say, where its secrets come from, and how `check` explains it."""

from __future__ import annotations

import base64

import pytest

from stream import config
from stream.config import Config
from stream.errors import ConfigError
from stream.runtime import courier, notices
from stream.surface import check

SECRET = "hunter2-hunter2-hunter2"
MODELS = "models: {late15: {task: binary}, fraud: {task: binary}}\n"


def parse(target: str) -> Config:
    return config.parse(f"{MODELS}deliver: [{target}]", "c.yaml")


@pytest.mark.parametrize(
    ("target", "fault"),
    [
        ("{}", "deliver[0]: give either alertmanager (its address) or webhook (a URL)"),
        ("{webhook: 'https://a/', alertmanager: 'https://b'}", "deliver[0]: give either alertmanager"),
        (f"{{webhook: 'https://me:{SECRET}@pager/x'}}", "deliver[0].webhook: no user or password in a URL"),
        (f"{{alertmanager: 'https://{SECRET}@pager'}}", "deliver[0].alertmanager: no user or password in a URL"),
        ("{webhook: 'http://pager/x'}", "deliver[0].webhook: plain http shows alerts and tokens on the way; use https"),
        ("{alertmanager: 'http://10.0.0.7:9093'}", "deliver[0].alertmanager: plain http"),
        (f"{{webhook: '{SECRET}'}}", "deliver[0].webhook: not a URL; write https://host/path"),
        (f"{{webhook: 'ftp://pager/{SECRET}'}}", "deliver[0].webhook: not a URL"),
        (f"{{webhook: 'https://pager:99999/{SECRET}'}}", "deliver[0].webhook: not a URL"),
        ("{webhook: 'https://[::1/x'}", "deliver[0].webhook: not a URL"),
        ('{webhook: "https://pager/x\\r\\nEvil: 1"}', "deliver[0].webhook: not a URL"),
        (f"{{webhook: 'https://pager/x#{SECRET}'}}", "deliver[0].webhook: the part after # is never sent"),
        ("{alertmanager: 'https://a/api/v2/alerts'}", "deliver[0].alertmanager: give its own address"),
        (f"{{webhook: 'https://a/', token: {SECRET}}}", "deliver[0].token: unknown setting; did you mean token_env?"),
        (f"{{webhook: 'https://a/', token_env: {SECRET}}}", "deliver[0].token_env: write the name of an environment"),
        ("{alertmanager: 'https://a', hmac_env: KEY}", "deliver[0].hmac_env: an Alertmanager checks no signatures"),
        ("{webhook: 'https://a/', link: 'https://b/'}", "deliver[0].link: only an Alertmanager takes one"),
        ("{webhook: 'https://a/', models: [frod]}", "deliver[0].models[0]: no model 'frod'; did you mean fraud?"),
        ("{webhook: 'https://a/', kinds: [drift]}", "deliver[0].kinds[0]: no kind 'drift'; did you mean label_drift?"),
        ("{webhook: 'https://a/', min_severity: high}", "deliver[0].min_severity: 'high' is none of information, "),
        ("{webhook: 'https://a/', timeout: 0s}", "deliver[0].timeout: must be above 0"),
        ("{webhook: 'https://a/', retry_for: soon}", "deliver[0].retry_for: 'soon' is not a duration"),
        ("{webhook: 'https://a/', name: 'A b'}", "deliver[0].name: write small letters"),
        ("{webhook: 'https://a/'}, {webhook: 'https://a/'}", "deliver[1].name: deliver[0] has the same"),
    ],
)
def test_every_fault_of_a_target_has_its_path_and_repeats_no_secret(target: str, fault: str) -> None:
    """F20, F53."""
    with pytest.raises(ConfigError) as caught:
        parse(target)
    assert len(caught.value.faults) == 1 and caught.value.faults[0].startswith(fault)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "target",
    [
        "{webhook: 'https://pager/x?team=ml'}",
        "{webhook: 'http://localhost:8080/x'}",
        "{webhook: 'http://[::1]:8080/x'}",
        "{webhook: 'http://pager/x', insecure: true}",
        "{alertmanager: 'http://127.0.0.1:9093/prefix/', link: 'https://grafana/d/x#drift'}",
    ],
)
def test_what_is_safe_is_taken(target: str) -> None:
    assert parse(target).deliver[0].min_severity == "warning"


@pytest.mark.parametrize(
    ("environment", "fault"),
    [
        ({}, "deliver[0].token_env: the environment variable PAGER_TOKEN is not set"),
        ({"PAGER_TOKEN": f"{SECRET}\r\nEvil: 1", "PAGER_KEY": SECRET}, "deliver[0].token_env: PAGER_TOKEN holds more"),
        ({"PAGER_TOKEN": SECRET, "PAGER_KEY": "hunter2"}, "deliver[0].hmac_env: PAGER_KEY holds less than 16 bytes"),
        ({"PAGER_TOKEN": SECRET, "PAGER_KEY": "whsec_h2!"}, "deliver[0].hmac_env: PAGER_KEY holds less than 16 bytes"),
    ],
)
def test_secrets_come_from_the_environment_and_a_bad_one_is_not_repeated(
    environment: dict[str, str], fault: str
) -> None:
    """F53."""
    read = parse("{webhook: 'https://pager/x', token_env: PAGER_TOKEN, hmac_env: PAGER_KEY}")
    with pytest.raises(ConfigError) as caught:
        courier.senders(read, "c.yaml", environment)
    assert caught.value.faults[0].startswith(fault)
    assert "hunter2" not in str(caught.value) and "h2!" not in str(caught.value)


def test_check_explains_the_targets_and_shows_no_path() -> None:
    """F20, F53: the path of a webhook is often its secret."""
    target = f"{{webhook: 'https://hooks/T0/{SECRET}', name: chat, kinds: [concept_drift], token_env: PAGER_TOKEN}}"
    said = "\n".join(check.explain(parse(target), None, {}))
    assert "alerts of every model, concept drift, from warning up, go to chat, a webhook at https://hooks;" in said
    assert "tried for 60 min, token PAGER_TOKEN (not set here)" in said
    assert SECRET not in said


def test_a_key_in_the_form_of_standard_webhooks_is_decoded() -> None:
    target = parse("{webhook: 'https://a/', hmac_env: KEY}").deliver[0]
    text = "whsec_" + base64.b64encode(b"0123456789abcdef").decode()
    assert notices.credentials(target, {"KEY": text}) == (notices.Credentials(None, b"0123456789abcdef"), [])

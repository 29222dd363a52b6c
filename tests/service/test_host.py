import pytest

from mooring.errors import EngineStopped, NotReady, UnknownModel
from mooring.service.host import ModelHost, ModelIdentity
from tests.service.texts import echo_service

IDENTITY = ModelIdentity("demo", "3", "0123456789abcdef", 7, ("demo", "champion"))


def test_identity_is_shown_as_label_and_fingerprint() -> None:
    assert IDENTITY.label == "demo/3@0123456789ab"
    assert IDENTITY.fingerprint == "mooring-0123456789ab"
    assert ModelIdentity("demo", None, "ab", 7, ("demo",)).label == "demo/-@ab"


def test_a_starting_host_gives_no_service() -> None:
    with pytest.raises(NotReady, match="loading"):
        _ = ModelHost(IDENTITY).service


def test_a_ready_host_gives_its_service_until_it_drains() -> None:
    host = ModelHost(IDENTITY)
    with echo_service() as service:
        host.ready(service)
        assert host.state == "ready"
        assert host.service is service
        host.drain()
        with pytest.raises(NotReady, match="ending"):
            _ = host.service


def test_a_model_loaded_after_the_drain_began_stays_closed() -> None:
    host = ModelHost(IDENTITY)
    host.drain()
    with echo_service() as service:
        host.ready(service)
        assert host.state == "draining"
        with pytest.raises(NotReady):
            host.check_ready()


def test_a_host_is_closed_while_its_engine_is_restarted() -> None:
    host = ModelHost(IDENTITY)
    states = [host.state]
    with echo_service() as service:
        for change in (
            host.engine_restarting,
            lambda: host.ready(service),
            host.engine_restarted,
            host.engine_restarting,
        ):
            change()
            states.append(host.state)
        with pytest.raises(NotReady, match="started again"):
            _ = host.service
        host.drain()
    assert states == ["starting", "starting", "restarting", "ready", "restarting"]
    assert host.state == "draining"


def test_a_failed_engine_closes_its_host_for_good() -> None:
    host = ModelHost(IDENTITY)
    told: list[str] = []
    host.when_failed(lambda: told.append("failed"))
    with echo_service() as service:
        host.ready(service)
        error = EngineStopped("died 3 times")
        host.engine_failed(error)
        assert (host.failure, told) == (error, ["failed"])
        with pytest.raises(NotReady):
            host.check_ready()


def test_only_served_names_are_known() -> None:
    host = ModelHost(IDENTITY)
    host.check_name("champion")
    with pytest.raises(UnknownModel, match=r"one of: demo, champion\. Given: 'other'") as error:
        host.check_name("other")
    assert error.value.param == "model"

"""The chart: linted, rendered with several values, and valid for Kubernetes."""

from pathlib import Path
from typing import Any

import helm_python
import jsonschema
import kubernetes_validate
import pytest
import yaml
from helm_python import Chart

from config import VERSION, Settings, WebServerSettings
from tests.portal import REPOSITORY

CHART = REPOSITORY / "deploy" / "helm" / "sulcus"
VALUES = {path.name.removesuffix("-values.yaml"): path for path in CHART.glob("ci/*.yaml")}
KUBERNETES = ("1.29", "1.34")
# What KEDA's documentation says of a ScaledObject, as far as the chart uses it.
SCALED_OBJECT = {
    "type": "object",
    "required": ["spec"],
    "properties": {
        "spec": {
            "type": "object",
            "required": ["scaleTargetRef", "triggers"],
            "additionalProperties": False,
            "properties": {
                "scaleTargetRef": {"type": "object", "required": ["name"]},
                "pollingInterval": {"type": "integer"},
                "cooldownPeriod": {"type": "integer"},
                "minReplicaCount": {"type": "integer", "minimum": 0},
                "maxReplicaCount": {"type": "integer", "minimum": 1},
                "fallback": {
                    "type": "object",
                    "required": ["failureThreshold", "replicas"],
                    "additionalProperties": {"type": "integer"},
                },
                "advanced": {"type": "object"},
                "triggers": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "required": ["type", "metadata"],
                        "properties": {
                            "type": {"const": "prometheus"},
                            "metadata": {
                                "type": "object",
                                "required": ["serverAddress", "query", "threshold"],
                                "additionalProperties": {"type": "string"},
                            },
                        },
                    },
                },
            },
        }
    },
}


def rendered(values: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    with Chart.load(CHART) as chart:
        chart.validate_schema(values or {})
        files = chart.render(values or {}, name="mri", namespace="mri")
    return [
        document
        for name, text in sorted(files.items())
        if name.endswith(".yaml")
        for document in yaml.safe_load_all(text)
        if document
    ]


@pytest.fixture(scope="module", params=["default", *sorted(VALUES)])
def objects(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    path = VALUES.get(request.param)
    return rendered(yaml.safe_load(path.read_text()) if path else None)


def of_kind(objects: list[dict[str, Any]], *kinds: str) -> list[dict[str, Any]]:
    return [one for one in objects if one["kind"] in kinds]


def pods(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one["spec"]["template"]["spec"] for one in of_kind(objects, "Deployment", "Job")]


@pytest.mark.parametrize("values", [None, *VALUES.values()], ids=lambda one: one and one.stem)
def test_lint_finds_nothing(values: Path | None) -> None:
    given = yaml.safe_load(values.read_text()) if values else {}
    found = helm_python.lint(CHART, given, strict=True)
    assert [one for one in found["messages"] if one["severity"] >= 2] == []
    assert not found["errors"]


def test_objects_are_what_kubernetes_accepts(objects: list[dict[str, Any]]) -> None:
    for one in objects:
        if one["apiVersion"].startswith(("keda.sh", "monitoring.coreos.com")):
            continue
        for version in KUBERNETES:
            kubernetes_validate.validate(one, version, strict=True)
    names = [(one["kind"], one["metadata"]["name"]) for one in objects]
    assert len(names) == len(set(names))
    for one in of_kind(objects, "ScaledObject"):
        jsonschema.validate(one, SCALED_OBJECT)
        targets = [each["metadata"]["name"] for each in of_kind(objects, "Deployment")]
        assert one["spec"]["scaleTargetRef"]["name"] in targets


def test_every_container_runs_without_rights_and_within_limits(
    objects: list[dict[str, Any]],
) -> None:
    for pod in pods(objects):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]
            places = {one["mountPath"] for one in container["volumeMounts"]}
            assert {"/tmp", "/var/lib/sulcus"} <= places
            mounted = {one["name"] for one in container["volumeMounts"]}
            assert mounted == {one["name"] for one in pod["volumes"]}


def test_secrets_are_only_referred_to_and_settings_are_known(objects: list[dict[str, Any]]) -> None:
    known = {
        str(field.alias or f"SULCUS_{name.upper()}")
        for model in (Settings, WebServerSettings)
        for name, field in model.model_fields.items()
    } | {"SULCUS_WORKER_CONCURRENCY", "SULCUS_WORKER_QUEUES", "OTEL_SERVICE_NAME"}
    assert not of_kind(objects, "Secret")
    for pod in pods(objects):
        for container in pod["containers"]:
            for one in container["env"]:
                assert one["name"] in known, one
                secret = one["name"].endswith(("_KEY", "DATABASE_URL", "BROKER_URL"))
                if secret and "TLS" not in one["name"]:
                    assert set(one["valueFrom"]) == {"secretKeyRef"}
            names = [one["name"] for one in container["env"]]
            assert len(names) == len(set(names))


def test_long_running_pods_have_probes_and_grace(objects: list[dict[str, Any]]) -> None:
    for one in of_kind(objects, "Deployment"):
        (container,) = one["spec"]["template"]["spec"]["containers"]
        assert "livenessProbe" in container
        selected = one["spec"]["selector"]["matchLabels"]
        assert selected.items() <= one["spec"]["template"]["metadata"]["labels"].items()
    workers = [one for one in of_kind(objects, "Deployment") if "worker" in one["metadata"]["name"]]
    for one in workers:
        assert one["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= 120
    (job,) = of_kind(objects, "Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"


def test_gpu_workers_ask_for_a_gpu_and_scale_by_the_age_of_the_queue() -> None:
    found = rendered(yaml.safe_load(VALUES["gpu"].read_text()))
    (worker,) = [one for one in of_kind(found, "Deployment") if "gpu" in one["metadata"]["name"]]
    (container,) = worker["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert {"name": "SULCUS_DEVICE", "value": "cuda"} in container["env"]
    assert "replicas" not in worker["spec"]  # the autoscaler's to say
    (scaled,) = of_kind(found, "ScaledObject")
    queries = [one["metadata"]["query"] for one in scaled["spec"]["triggers"]]
    assert "sulcus_queue_oldest_seconds" in queries[0]
    assert {one["metadata"]["name"] for one in of_kind(found, "PodMonitor")} == {
        "sulcus-web",
        "sulcus-worker",
    }


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"publicUrl": "http://mri.example.org"}, "publicUrl"),
        ({"settings": {"SULCUS_SECRET_KEY": "x" * 64}}, "SULCUS_SECRET_KEY"),
        ({"workers": {"cpu": {"queues": "training"}}}, "queues"),
        ({"worker": {}}, "worker"),
    ],
)
def test_wrong_values_are_named(values: dict[str, Any], word: str) -> None:
    with Chart.load(CHART) as chart, pytest.raises(helm_python.HelmError, match=word):
        chart.validate_schema(values)


def test_somebody_has_to_do_the_housekeeping() -> None:
    for cpu in (
        {"enabled": False},
        {"replicas": 0},
        {"autoscaling": {"enabled": True, "minReplicas": 0}},
    ):
        with pytest.raises(helm_python.HelmError, match="never be empty"):
            rendered({"workers": {"cpu": cpu}})


def test_the_chart_has_the_version_of_the_product() -> None:
    facts = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert facts["appVersion"] == VERSION

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from netk8s.checkup import Checkup
from netk8s.render import check


@pytest.mark.parametrize("which", ["found", "hostile", "nothing"])
def test_prometheus_reads_it(which: str, request: pytest.FixtureRequest) -> None:
    found: Checkup = request.getfixturevalue(which)
    families = {family.name: family for family in text_string_to_metric_families(check.render(found, "prometheus"))}
    assert all(family.type == "gauge" and family.documentation for family in families.values())
    flows = families["netk8s_check_service_flows"].samples
    assert sum(sample.value for sample in flows) == len(found.asked)
    assert len({tuple(sorted(sample.labels.items())) for sample in flows}) == len(flows) == 3 * len(found.ports)
    errors = [s.value for s in families["netk8s_check_findings_by_severity"].samples if s.labels["severity"] == "error"]
    assert errors == [sum(problem.finding.severity == "error" for problem in found.problems)]
    assert sum(s.value for s in families["netk8s_check_findings"].samples) == len(found.problems)


def test_labels_say_which_service_and_what_becomes_of_it(found: Checkup) -> None:
    families = {family.name: family for family in text_string_to_metric_families(check.render(found, "prometheus"))}
    wanted = {"service": "default/nginx", "port": "", "protocol": "tcp", "fate": "fails"}
    (sample,) = [s for s in families["netk8s_check_service_flows"].samples if s.labels == wanted]
    nginx = [each for each in found.asked if each.question.port.service == "default/nginx"]
    assert sample.value == sum(each.fate == "fails" for each in nginx) > 0

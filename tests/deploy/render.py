"""Run with Helm's and Kubernetes' packages: judges the chart, and prints as JSON what it renders for some values."""

import json
import sys

import kubernetes_validate
import yaml
from helm_python.chart import Chart, lint

__all__ = ["main"]


def main(folder: str, version: str) -> None:
    """Reads the values from standard input."""
    values = json.load(sys.stdin)
    report = lint(folder, values, strict=True)
    documents = []
    with Chart.load(folder) as chart:
        chart.validate_schema(chart.merge_values(values))
        for name, text in chart.render(values, name="demo", namespace="voice").items():
            documents += [one for one in yaml.safe_load_all(text) if one] if name.endswith(".yaml") else []
    for document in documents:
        if not document["apiVersion"].startswith("monitoring.coreos.com"):  # it is the Prometheus operator's
            kubernetes_validate.validate(document, version, strict=True)
    serious = [message for message in report["messages"] if message["severity"] > 1] + report["errors"]
    json.dump({"complaints": serious, "documents": documents}, sys.stdout)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {error}")

"""In Grafana's place: reads what it is provisioned with, and asks the data source every question of the dashboards.

/api/health answers 200 once all of that went well, so the health check of docker-compose.yml says whether the files
are where Grafana looks for them, lead to each other, and hold queries that Prometheus understands. What it looks like is
not shown by this.
"""

import json
import pathlib
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import yaml

PROVISIONING = pathlib.Path("/etc/grafana/provisioning")


def provisioned(kind, key):
    """The entries of all files of one kind."""
    files = sorted((PROVISIONING / kind).glob("*.yml"))
    return [entry for file in files for entry in yaml.safe_load(file.read_text())[key]]


def dashboards():
    paths = [pathlib.Path(provider["options"]["path"]) for provider in provisioned("dashboards", "providers")]
    return [json.loads(file.read_text()) for path in paths for file in sorted(path.glob("*.json"))]


def questions(dashboard):
    """The expressions of all panels, with Grafana's variables filled in."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            text = re.sub(r"\$__(rate_)?interval", "5m", target["expr"])
            yield re.sub(r"\$(source|\{source\})", ".*", text)


def ask(url, question):
    query = urllib.parse.urlencode({"query": question})
    with urllib.request.urlopen(f"{url}/api/v1/query?{query}", timeout=10) as answer:
        if json.load(answer)["status"] != "success":
            raise ValueError(question)


def check():
    (source,) = provisioned("datasources", "datasources")
    asked = [question for dashboard in dashboards() for question in questions(dashboard)]
    if not asked or not pathlib.Path("/run/secrets/grafana_password").read_text():
        raise ValueError("no dashboard, or no password")
    for question in asked:
        try:
            ask(source["url"], question)
        except urllib.error.HTTPError as error:
            sys.exit(f"{question}: {error.read().decode()}")
    print(f"{len(asked)} queries are understood by {source['url']}", flush=True)


class Health(BaseHTTPRequestHandler):
    """Answers /api/health, also to HEAD."""

    def do_GET(self):
        self.send_response(200 if self.path == "/api/health" else 404)
        self.end_headers()

    do_HEAD = do_GET


for attempt in range(30):
    try:
        check()
        break
    except (urllib.error.URLError, TimeoutError) as error:
        print(f"{error}: tried again", flush=True)
        time.sleep(1)
else:
    sys.exit("the data source cannot be reached")
HTTPServer(("0.0.0.0", 3000), Health).serve_forever()

"""Fails where an installed package has a known vulnerability, by pip-audit and the database at osv.dev.

python .ci/audit.py [URL of a database in place of osv.dev's]

Vulnerabilities in allowed_vulnerabilities.txt pass. Where no connection to the database comes about, nothing is
audited, this says so, and the exit status is 0. Whatever else goes wrong is a failure. pip-audit's usual database,
PyPI, is not asked: a mirror of it without such data answers as if there were nothing to report.
"""

import json
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

url = sys.argv[1] if len(sys.argv) > 1 else "https://api.osv.dev/v1/query"

known_to_be_vulnerable = {"package": {"name": "jinja2", "ecosystem": "PyPI"}, "version": "2.4.1"}
request = urllib.request.Request(url, json.dumps(known_to_be_vulnerable).encode())
try:
    with urllib.request.urlopen(request, timeout=30) as response:
        answer = json.load(response)
except OSError as error:
    if isinstance(error, urllib.error.HTTPError) or isinstance(getattr(error, "reason", None), ssl.SSLError):
        raise  # somebody answered
    print(f"NOT AUDITED: {url} can't be reached ({error}).")
    sys.exit(0)
if not answer.get("vulns"):
    sys.exit(f"{url} knows of no vulnerability in jinja2 2.4.1, which has some: it can't be relied on.")

allowed = {}
for line in (Path(__file__).parent / "allowed_vulnerabilities.txt").read_text("utf-8").splitlines():
    if line and not line.startswith("#"):
        identifier, _, why = line.partition(" ")
        allowed[identifier] = why or sys.exit(
            f"allowed_vulnerabilities.txt doesn't say why {identifier} is allowed."
        )

command = [sys.executable, "-m", "pip_audit", "-s", "osv", "--osv-url", url, "--skip-editable", "-f", "json"]
command += [option for identifier in allowed for option in ("--ignore-vuln", identifier)]
audit = subprocess.run(
    [*command, "--progress-spinner", "off"], stdout=subprocess.PIPE, check=False, text=True
)
try:
    packages = json.loads(audit.stdout)["dependencies"]
except ValueError:
    sys.exit("pip-audit failed.")
for package in packages:
    if "skip_reason" in package:
        print(f"skipped {package['name']}: {package['skip_reason']}")
    for found in package.get("vulns", []):
        fixed = ", ".join(found["fix_versions"]) or "none"
        print(f"{package['name']} {package['version']}: {found['id']}, fixed in {fixed}")
print(
    f"{sum('version' in package for package in packages)} packages audited, {len(allowed)} vulnerabilities allowed."
)
sys.exit(audit.returncode)

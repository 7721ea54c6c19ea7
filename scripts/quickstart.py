#!/usr/bin/env python3
"""Runs the README's quickstart word for word and checks that a purchase goes the whole way.

The first two blocks under "## Quickstart" keep running (the server and the webhook receiver); the
third prints lines to paste, and those are pasted. Everything happens on the README's own ports, in a fresh
folder below target/, from which cargo finds the workspace; a data directory of your own is not touched.
"""
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def blocks():
    with open(os.path.join(ROOT, "README.md")) as file:
        section = file.read().split("\n## Quickstart\n")[1].split("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", section, re.S)


def start(command, log, folder):
    return subprocess.Popen(["bash", "-c", command], cwd=folder, stdout=log, stderr=log,
                            start_new_session=True)


def wait_until(what, condition, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.2)
    sys.exit(f"quickstart: {what} did not happen within {seconds} s")


def ready():
    try:
        with urllib.request.urlopen("http://127.0.0.1:9600/readyz", timeout=1) as answer:
            return answer.status == 200
    except OSError:
        return False


def bash(script, folder):
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=folder, text=True,
                          capture_output=True, timeout=600)
    if done.returncode != 0:
        sys.exit(f"quickstart: {script}\nended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def main():
    serve, listen, quickstart = blocks()
    if ready():
        sys.exit("quickstart: something answers on port 9600 already; stop it first")
    os.makedirs(os.path.join(ROOT, "target"), exist_ok=True)
    folder = tempfile.mkdtemp(prefix="quickstart-", dir=os.path.join(ROOT, "target"))
    log = tempfile.NamedTemporaryFile("w+", suffix=".log")
    received = tempfile.NamedTemporaryFile("w+", suffix=".log")
    running = []
    try:
        running.append(start(serve, log, folder))
        wait_until("a ready server", ready, 1200)
        running.append(start(listen, received, folder))
        printed = bash(quickstart, folder)
        pasted = bash(printed[printed.index("#"):], folder)
        for wanted in ('"status":"evaluated"', '"code":"rewarded"', "302 to https://example.com/signup?akt_id=", '"amount":980'):
            if wanted not in pasted:
                sys.exit(f"quickstart: no {wanted} in\n{pasted}")

        def webhook():
            with open(received.name) as file:
                return "action_attempt.verified" in file.read()
        wait_until("a webhook", webhook, 30)
        print("quickstart: the purchase became a reward, a metric and a webhook")
    except SystemExit:
        for file in (log, received):
            file.seek(0)
            sys.stderr.write(file.read()[-4000:])
        raise
    finally:
        for process in running:
            os.killpg(process.pid, signal.SIGTERM)
        for process in running:
            process.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()

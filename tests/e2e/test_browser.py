#!/usr/bin/env python3
"""The openai package in a page of a real browser, of another origin: test_browser.py BUILD [TEST]...

The page is served by this test under a name that is not this machine's (the browser is told where
it is), so that the browser asks by a preflight whether the page may use the server."""

import functools
import http.server
import json
import os
import pathlib
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

import models
from harness import Cluster, expect, run_tests

MODEL = "wide"
ASK = {"model": MODEL, "messages": [{"role": "user", "content": "Say hello."}], "seed": 7,
       "temperature": 1, "max_tokens": 12}
PACKAGE = "openai@6"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
NAME = "page.test"
PAGE_SECONDS = 60
NPM_SECONDS = 120
PAGE = """<!doctype html><meta charset="utf-8"><script type="module">
let said = {};
try {
    const { default: OpenAI } = await import("/openai/index.mjs");
    const client = new OpenAI({ baseURL: BASE, apiKey: "k", dangerouslyAllowBrowser: true,
                                maxRetries: 0 });
    const ask = ASK;
    let text = "", chunks = 0, usage = null;
    for await (const c of await client.chat.completions.create(
            { ...ask, stream: true, stream_options: { include_usage: true } })) {
        text += c.choices[0]?.delta?.content ?? "";
        chunks++;
        usage = c.usage ?? usage;
    }
    const whole = await client.chat.completions.create(ask).withResponse();
    let refused = {};
    try { await client.chat.completions.create({ ...ask, model: "none" }); }
    catch (e) { refused = { status: e.status, message: e.message, id: e.requestID }; }
    said = { text, chunks, usage, refused, whole: whole.data.choices[0].message.content,
             id: whole.request_id, origin: location.origin };
} catch (e) { said = { error: String(e) }; }
await fetch("/said", { method: "POST", body: JSON.stringify(said) });
</script>"""


def package(build):
    """The folder of the npm package, or why there is none."""
    folder = pathlib.Path(build) / "e2e-npm"
    found = folder / "node_modules" / "openai"
    if (found / "index.mjs").exists():
        return found
    if shutil.which("npm") is None:
        return "no npm"
    folder.mkdir(exist_ok=True)
    try:
        subprocess.run(["npm", "install", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts",
                        "--prefix", folder, PACKAGE], check=True, timeout=NPM_SECONDS,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except (subprocess.SubprocessError, OSError) as e:
        return f"npm gives no {PACKAGE}: {e}"
    return found if (found / "index.mjs").exists() else f"no index.mjs in {PACKAGE}"


class Site(http.server.SimpleHTTPRequestHandler):
    """The page, the package, and what the page said."""

    extensions_map = {".mjs": "text/javascript", "": "application/octet-stream"}

    def __init__(self, *args, page, package, said):
        self.page, self.said = page, said
        super().__init__(*args, directory=package)

    def do_GET(self):
        if self.path == "/":
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(self.page().encode())
        else:
            self.path = self.path.removeprefix("/openai")
            super().do_GET()

    def do_POST(self):
        self.said.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


class Page:
    """Serves the page; opens it in a browser and gives what it said."""

    def __init__(self, browser, folder):
        self.browser, self.said, self.base = browser, queue.Queue(), ""
        handler = functools.partial(Site, page=self.text, package=folder, said=self.said)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.origin = f"http://{NAME}:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def text(self):
        return PAGE.replace("BASE", json.dumps(self.base)).replace("ASK", json.dumps(ASK))

    def open(self, base):
        self.base = base
        with tempfile.TemporaryDirectory(prefix="shoal-browser-") as profile:
            p = subprocess.Popen(
                [self.browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
                 "--no-first-run", "--disable-background-networking", "--disable-component-update",
                 "--disable-sync", f"--user-data-dir={profile}",
                 f"--host-resolver-rules=MAP {NAME} 127.0.0.1", "--remote-debugging-port=0",
                 self.origin + "/"],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                start_new_session=True)
            try:
                return self.said.get(timeout=PAGE_SECONDS)
            finally:
                os.killpg(p.pid, signal.SIGKILL)
                p.wait(10)


def a_page_streams_a_chat(context):
    cluster, page = context
    d = cluster.up("--model", MODEL, "--threads", "1", "--allow-origin", page.origin)
    d.wait_model(MODEL)
    said = page.open(d.url + "/v1")
    expect("error" not in said and said["origin"] == page.origin, str(said))
    whole = d.request("POST", "/v1/chat/completions", ASK)[2]["choices"][0]["message"]["content"]
    expect(said["text"] == whole == said["whole"], f"{said} but {whole!r}")
    expect(said["chunks"] > 2 and said["usage"]["completion_tokens"] <= 12, str(said))
    expect(said["id"].startswith("req_"), "a page can't read the request's id")
    refused = said["refused"]
    expect(refused["status"] == 404 and "does not exist" in refused["message"] and
           refused["id"].startswith("req_"), str(refused))


def a_page_of_another_origin_gets_nothing(context):
    cluster, page = context
    d = cluster.up("--model", MODEL, "--threads", "1")
    d.wait_model(MODEL)
    said = page.open(d.url + "/v1")
    expect("Connection error" in said.get("error", ""), str(said))
    expect(d.status()["models"][0]["requests"] == 1, "its request was worked on")


TESTS = [a_page_streams_a_chat, a_page_of_another_origin_gets_nothing]


def main():
    build = sys.argv[1]
    with Cluster(f"{build}/src/cli/shoal", models.folder(build)) as cluster:
        def setup():
            browser = next((b for b in map(shutil.which, BROWSERS) if b), None)
            folder = package(build) if browser else None
            if browser is None:
                return "no Chromium"
            return folder if isinstance(folder, str) else (cluster, Page(browser, folder))

        return run_tests(TESTS, setup)


if __name__ == "__main__":
    sys.exit(main())

"A headless Chromium, driven over the DevTools protocol through a pipe: `with Chromium() as c: c.open(url)`"

import base64, json, os, select, shutil, subprocess, tempfile, time


class Chromium:
    "One page; events are kept in `events`"

    def __init__(self, width=1280, height=900):
        exe = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
        if exe is None:
            raise FileNotFoundError('no chromium is on the PATH')
        self.profile, self.n, self.buffer, self.events = tempfile.TemporaryDirectory(), 0, b'', []
        to_r, to_w = os.pipe()
        from_r, from_w = os.pipe()
        args = [
            exe,
            '--headless=new',
            '--no-sandbox',
            '--disable-gpu',
            '--disable-dev-shm-usage',
            '--no-first-run',
            '--hide-scrollbars',
            '--remote-debugging-pipe',
            f'--user-data-dir={self.profile.name}',
            'about:blank',
        ]
        self.proc = subprocess.Popen(
            ['bash', '-c', f'exec "$@" 3<&{to_r} 4>&{from_w}', 'bash', *args],
            pass_fds=(to_r, from_w),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_r)
        os.close(from_w)
        self.to, self.fro, self.session = to_w, from_r, None
        target = self.call('Target.createTarget', url='about:blank')['targetId']
        self.session = self.call('Target.attachToTarget', targetId=target, flatten=True)['sessionId']
        for domain in ('Page', 'Runtime', 'Network', 'Log'):
            self.call(f'{domain}.enable')
        self.size(width, height)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            os.write(self.to, json.dumps(dict(id=0, method='Browser.close')).encode() + b'\0')
        except OSError:
            pass
        try:
            self.proc.wait(10)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            self.proc.wait()
        os.close(self.to)
        os.close(self.fro)
        time.sleep(0.3)  # its helpers still write to the profile
        try:
            self.profile.cleanup()
        except OSError:
            pass

    def _message(self, seconds):
        "The next message, or None"
        while b'\0' not in self.buffer:
            if not select.select([self.fro], [], [], seconds)[0]:
                return None
            got = os.read(self.fro, 1 << 20)
            if not got:
                raise RuntimeError('chromium has ended')
            self.buffer += got
        message, _, self.buffer = self.buffer.partition(b'\0')
        return json.loads(message)

    def call(self, method, seconds=60, **params):
        "The result of one command"
        self.n += 1
        data = (
            json.dumps(
                dict(
                    id=self.n, method=method, params=params, **(dict(sessionId=self.session) if self.session else {})
                )
            ).encode()
            + b'\0'
        )
        while data:
            data = data[os.write(self.to, data) :]
        while (m := self._message(seconds)) is not None:
            if m.get('id') == self.n:
                if 'error' in m:
                    raise RuntimeError(f'{method}: {m["error"]["message"]}')
                return m['result']
            if 'method' in m:
                self.events.append(m)
        raise TimeoutError(f'{method} gave no answer in {seconds} s')

    def wait(self, seconds=0.3):
        "Let the page work"
        end = time.time() + seconds
        while (left := end - time.time()) > 0:
            if (m := self._message(left)) is not None and 'method' in m:
                self.events.append(m)

    def size(self, width, height=900, touch=False):
        self.call('Emulation.setDeviceMetricsOverride', width=width, height=height, deviceScaleFactor=1, mobile=touch)
        self.call('Emulation.setTouchEmulationEnabled', enabled=touch)

    def media(self, **features):
        self.call(
            'Emulation.setEmulatedMedia',
            features=[dict(name=k.replace('_', '-'), value=v) for k, v in features.items()],
        )

    def open(self, url):
        "Load a page, and wait until its scripts have run"
        self.events.clear()
        self.call('Page.navigate', url=url)
        for _ in range(300):
            self.wait(0.1)
            if any(e['method'] == 'Page.loadEventFired' for e in self.events):
                break
        self.wait(0.7)

    def js(self, code):
        "Value of an expression"
        res = self.call('Runtime.evaluate', expression=code, returnByValue=True, awaitPromise=True)
        if 'exceptionDetails' in res:
            raise RuntimeError(
                res['exceptionDetails'].get('exception', {}).get('description', res['exceptionDetails']['text'])
            )
        return res['result'].get('value')

    def key(self, key):
        for kind in ('keyDown', 'keyUp'):
            self.call(
                'Input.dispatchKeyEvent',
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=dict(
                    ArrowLeft=37, ArrowUp=38, ArrowRight=39, ArrowDown=40, End=35, Home=36, Enter=13, Tab=9
                ).get(key, 0),
            )
        self.wait(0.15)

    def mouse(self, x, y, kind='mouseMoved', **kw):
        self.call('Input.dispatchMouseEvent', type=kind, x=x, y=y, **kw)
        self.wait(0.15)

    def click(self, x, y):
        for kind in ('mousePressed', 'mouseReleased'):
            self.mouse(x, y, kind, button='left', clickCount=1)

    def tap(self, x, y):
        self.call('Input.dispatchTouchEvent', type='touchStart', touchPoints=[dict(x=x, y=y)])
        self.call('Input.dispatchTouchEvent', type='touchEnd', touchPoints=[])
        self.wait(0.4)

    def shot(self, path, selector=None, full=False):
        "A PNG of the window, of one element, or of the whole page"
        kw = {}
        if selector or full:
            element = 'document.documentElement' if full else f'document.querySelector({json.dumps(selector)})'
            box = '[r.x + scrollX, r.y + scrollY, r.width, r.height]'
            r = self.js(f'(() => {{ const r = {element}.getBoundingClientRect(); return {box} }})()')
            kw = dict(clip=dict(zip(('x', 'y', 'width', 'height'), r), scale=1), captureBeyondViewport=True)
        with open(path, 'wb') as f:
            f.write(base64.b64decode(self.call('Page.captureScreenshot', format='png', **kw)['data']))

    @property
    def requests(self):
        return [e['params']['request']['url'] for e in self.events if e['method'] == 'Network.requestWillBeSent']

    @property
    def errors(self):
        "Errors of the console, exceptions, and what the security policy has stopped"
        res = [
            str(e['params']['args'])[:300]
            for e in self.events
            if e['method'] == 'Runtime.consoleAPICalled' and e['params']['type'] in ('error', 'warning')
        ]
        res += [
            e['params']['exceptionDetails'].get('exception', {}).get('description', '')[:300]
            for e in self.events
            if e['method'] == 'Runtime.exceptionThrown'
        ]
        return res + [
            e['params']['entry']['text'][:300]
            for e in self.events
            if e['method'] == 'Log.entryAdded' and e['params']['entry']['level'] in ('error', 'warning')
        ]

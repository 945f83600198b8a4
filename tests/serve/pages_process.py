"""A server of nothing but pages, in front of a scripted endpoint: `python pages_process.py FOLDER` prints its port."""

import socket
import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from pages_scripted import Scripted, pages_of

from dokja.serve.pages.mount import BASE, mount

TEXT = """The answer is **7**, since \\(3 + 4 = 7\\).

```python
print(3 + 4)
```

<script>document.title = "taken"</script> ![pixel](https://elsewhere.example/pixel.png)
""" + "\n\n".join(f"Paragraph {n} of the answer." for n in range(12))

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    endpoint = Scripted(thought="3 and 4 make 7. " * 12, text=TEXT, delay=0.01)
    app = FastAPI()
    mount(app, pages_of(folder, endpoint, BASE))
    sock = socket.create_server(("127.0.0.1", 0))
    print(sock.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run([sock])

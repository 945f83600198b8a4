"""What a shape costs on a mesh of devices, by arithmetic alone (no torch): memory, FLOPs, bytes moved, time, serving.

| file         | what it says                                                     |
|--------------|------------------------------------------------------------------|
| `parts.py`   | which parameters there are, and which pipeline stage holds them  |
| `mesh.py`    | dp, tp, pp, ep: what divides what, and what cannot be            |
| `devices.py` | rates and sizes of devices, from their data sheets               |
| `memory.py`  | bytes of a device in training                                    |
| `step.py`    | FLOPs, bytes moved and seconds of a training step                |
| `fit.py`     | the micro batch that fits, or the smallest mesh on which one does|
| `serve.py`   | bytes and limits of inference                                    |

The axes: dp shards weights, gradients and optimiser state as FSDP2 does; tp splits heads, feed-forwards and vocabulary
(activations along the sequence, arXiv 2205.05198); pp gives every stage a run of layers; ep spreads experts over
groups of dp, so that dp x tp x pp devices take part whatever ep is.
"""

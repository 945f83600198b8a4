"""Tasks of many turns: an agent with tools, a simulated user, and a database whose end state is graded (τ²-bench).

| file        | what it holds                                                                         |
|-------------|---------------------------------------------------------------------------------------|
| toolkit     | what a tool is: its schema, the check of its arguments, its errors                      |
| airline, retail, telecom, phone | the tools of the three domains; `phone` is what telecom's user does        |
| world       | a database with its tools, and what ties the agent's side to the user's                |
| domain      | official data read from a pack: databases, policies, scenarios, criteria               |
| dialogue    | agent, user and world in turns, over anything that answers messages with tools (`Chat`) |
| prompts     | what agent and user are told                                                           |
| reward      | the official evaluation, from the transcript alone                                     |
| golden      | a scripted agent and user that replay the official actions                             |

Published behaviour: Yao et al. (arXiv 2406.12045), Barres et al. (arXiv 2506.07982) and their MIT-licensed repository.
The code, the descriptions of the tools and the instructions around the official policies are ours.
"""

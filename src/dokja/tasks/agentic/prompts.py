"""What agent and user are told. Policies and guidelines are the benchmark's own, read from its data; the words around
them are ours, so scores are not to the decimal those of the official runner."""

from __future__ import annotations

from dokja.tasks.agentic.domain import Domain, Scenario

GREETING = "Hello! What can I do for you today?"
"""The agent's first words; they are not the model's."""
STOPS = ("###STOP###", "###TRANSFER###", "###OUT-OF-SCOPE###")
"""What the user writes to end the conversation, as the guidelines have it."""

_AGENT = """You work at a customer desk. Serve the customer, and keep to the policy below without exception.
At every turn do one thing: write to the customer, or call a tool. Never do both in one turn."""
_LABELS = {
    "domain": "Domain",
    "reason_for_call": "Why you call",
    "known_info": "What you know",
    "unknown_info": "What you do not know",
    "task_instructions": "What to do",
}


def agent_prompt(domain: Domain) -> str:
    """The agent's system message."""
    return f"{_AGENT}\n\n<policy>\n{domain.policy}\n</policy>"


def user_prompt(domain: Domain, scenario: Scenario) -> str:
    """The simulated user's system message."""
    return f"{domain.guidelines}\n\n<scenario>\n{story(scenario)}\n</scenario>"


def story(scenario: Scenario) -> str:
    """Who the user is, what they know and what they want."""
    who = [f"Who you are:\n{scenario.persona.strip()}"] if scenario.persona else []
    told = scenario.instructions
    if isinstance(told, str):
        return "\n\n".join([*who, told])
    return "\n\n".join([*who, *(f"{label}:\n{told[key]}" for key, label in _LABELS.items() if told.get(key))])

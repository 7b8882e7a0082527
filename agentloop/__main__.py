"""`python -m agentloop`."""

from agentloop.cli import main

if __name__ == "__main__":
    main()

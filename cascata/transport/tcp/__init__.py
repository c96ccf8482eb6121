"""The portable transport: connections between workers, and channels that one worker keeps for all."""

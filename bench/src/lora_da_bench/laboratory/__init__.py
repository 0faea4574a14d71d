"""Laboratory: small settings that tell in minutes from which statistics the span of a frozen A should be taken."""

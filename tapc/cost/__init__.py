"""What a choice of bits will cost: flash, instructions and RAM, predicted."""

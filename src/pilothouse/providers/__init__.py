"""Identity providers of any kind: how they are asked, and what they say of people and programs."""

"""What was an adapter trained on, and how well, read from its weights alone?"""

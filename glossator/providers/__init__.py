"""Who answers: local models, the OpenAI and Anthropic protocols, and the meter around them."""

"""Signatures of messages, against the example that the specification's libraries are tested with."""

from pilothouse.auth.webhook_signing import new_secret, signed_headers


def test_the_known_answer_of_the_specification():
    headers = signed_headers(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        b'{"test": 2432232314}',
        message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp=1614265330,
    )

    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_a_secret_has_256_bits_of_its_own():
    assert new_secret(bytes) == "whsec_" + "A" * 43 + "="
    assert new_secret() != new_secret()

"""Lost frames make the screen doubt, and nothing else does."""

from ids_appliance.trigger.losses import EVERY_NS, Losses


class Screen:
    doubts = 0

    def doubt(self) -> None:
        self.doubts += 1


def test_each_further_loss_is_told_once_and_asked_for_now_and_then() -> None:
    screen, lost, asked = Screen(), [7], []

    def ask() -> int:
        asked.append(lost[0])
        return lost[0]

    losses = Losses(screen, ask)
    assert losses.poll(0) == () and screen.doubts == 0, "what was lost before is over"
    lost[0] = 8
    assert losses.poll(EVERY_NS - 1) == () and screen.doubts == 0
    losses.poll(EVERY_NS)
    losses.poll(2 * EVERY_NS)
    assert screen.doubts == 1 and len(asked) == 4
    lost[0] = 9
    losses.poll(3 * EVERY_NS)
    assert screen.doubts == 2

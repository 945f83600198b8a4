"""Images in the report: drawn again only where they come out as they were asked."""

from run_folder import answer

from dokja.proof.pictures import pictures
from dokja.tasks.registry import TASKS
from dokja.tasks.splits import image_sha256
from dokja.text.images import read_image

PROBLEM = TASKS["digits"].problem(5, 2, "ko")
SHOWN = tuple(map(image_sha256, PROBLEM.images))


def record(**changes):
    values = {"task": "digits", "problem_id": PROBLEM.id, "level": 2, "language": "ko", "images": SHOWN}
    return answer(0, **(values | changes))


def test_a_picture_is_the_image_that_was_asked():
    (url,) = pictures(record())
    assert image_sha256(read_image(url)) == SHOWN[0]


def test_nothing_is_shown_where_it_would_be_another_image():
    for other in ({"images": ()}, {"images": ("0" * 64,)}, {"task": "gone"}, {"level": 9}, {"problem_id": "x"}):
        assert pictures(record(**other)) == []

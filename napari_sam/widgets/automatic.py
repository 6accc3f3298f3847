"""Everything at once: a preview on the slice on screen, sliders that answer at once, then the whole stack."""

from __future__ import annotations

from typing import TYPE_CHECKING

from magicgui.widgets import ComboBox, Container, FloatSlider, Label, PushButton, SpinBox

from napari_sam.layers import OnScreen
from napari_sam.proposals import Proposals
from napari_sam.registry import attach
from napari_sam.tracks import show_tracks, time_of
from napari_sam.widgets.span import slice_span
from src_core.automatic import MaskRecord, Thresholds, label_image, select
from src_core.linking import LinkSettings
from src_core.session_automatic import (
    AutomaticProgress,
    Following,
    SliceSearch,
    plane_steps,
    stack_to_session,
)

if TYPE_CHECKING:
    import napari
    from napari.layers import Image

    from napari_sam.running import Progress

LINK, SEEDS = "search every slice", "search some, propagate"
NO_IMAGE = "Choose an image in the panel Segment first."
FOLLOW = "follow through time"
STACK, FILM = "Find objects in the stack", "Find and follow objects"


class AutomaticWidget(Container):
    """Preview, thresholds, and the stack."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        usual = Thresholds()
        self._ways = [SEEDS, LINK]
        self.preview = PushButton(
            text="Find objects on this slice", tooltip="Shows them; nothing is kept yet"
        )
        self.score = FloatSlider(
            label="sure", min=0, max=1, step=0.01, value=usual.min_score,
            tooltip="Show only objects that the network is at least this sure of",
        )  # fmt: skip
        self.stability = FloatSlider(
            label="sharp", min=0, max=1, step=0.01, value=usual.min_stability,
            tooltip="Show only objects whose outline is at least this sharp",
        )  # fmt: skip
        self.contrast = FloatSlider(
            label="clear", min=0, max=1, step=0.01, value=usual.min_contrast,
            tooltip="Show only objects that stand out at least so much, compared with the others",
        )  # fmt: skip
        self.area = SpinBox(
            label="smallest", min=1, max=1_000_000, value=int(usual.min_area_px), tooltip="In pixels"
        )
        self.count = Label(value="")
        self.keep = PushButton(
            text="Keep these as drafts", tooltip="They become objects to check; one undo takes them all back"
        )
        self.method = ComboBox(
            label="stack", choices=lambda _: self._ways,  # asked again whenever layers come or go
            tooltip="Search some slices and carry what is found through the others; search all and link it; "
            "or follow objects through time, divisions included",
        )  # fmt: skip
        self.span = slice_span("First and last slice")
        self.run = PushButton(text=STACK, tooltip="With the thresholds above. Stopped, it goes on later")
        self.stop = PushButton(text="Stop", tooltip="Go on later from here (Shift-G)", enabled=False)
        self.report = Label(value="")
        super().__init__(
            widgets=[
                self.preview, self.score, self.stability, self.contrast, self.area, self.count, self.keep,
                self.method, self.span, self.run, self.stop, self.report,
            ],
            labels=True,
        )  # fmt: skip
        self.interaction = attach(self.native, napari_viewer, self._end)
        self.native.setMinimumWidth(260)
        self.report.native.setWordWrap(True)
        self._records: list[MaskRecord] = []
        self._shown: tuple[OnScreen, Proposals] | None = None
        self._axis: tuple[str | None, int] = (None, 0)
        self._film: Image | None = None
        self.preview.changed.connect(self._search)
        self.keep.changed.connect(self._keep)
        self.run.changed.connect(self._run)
        self.method.changed.connect(self._update)
        self.stop.changed.connect(lambda: self.interaction.stop())
        for slider in (self.score, self.stability, self.contrast, self.area):
            slider.changed.connect(self._show)
        self.interaction.changed.connect(self._update)
        self.interaction.ready_changed.connect(self._moved)
        self.interaction.progress_changed.connect(self._progressed)
        self._update()

    def _end(self) -> None:
        self.interaction.changed.disconnect(self._update)
        self.interaction.ready_changed.disconnect(self._moved)
        self.interaction.progress_changed.disconnect(self._progressed)
        self._forget()
        self.enabled = False

    @property
    def thresholds(self) -> Thresholds:
        """What the sliders say."""
        return Thresholds(
            min_score=float(self.score.value),
            min_stability=float(self.stability.value),
            min_contrast=float(self.contrast.value),
            min_area_px=int(self.area.value),
        )

    def _update(self) -> None:
        interaction = self.interaction
        session = interaction.session
        if session is None or (self._shown is not None and interaction.image is not self._shown[1].image):
            self._forget()
        on_screen = interaction.on_screen() if session is not None else None
        axis = on_screen.plane.axis if on_screen is not None else None
        free = on_screen is not None and not interaction.propagating and not interaction.loading
        self.preview.enabled = free
        self.keep.enabled = free and self._shown is not None
        self.run.enabled = free and axis is not None
        self.stop.enabled = interaction.propagating
        if session is None or self.report.value == NO_IMAGE:
            self.report.value = NO_IMAGE if session is None and not interaction.loading else ""
        self._offer_time()
        count = session.volume.n_planes(axis) if session is not None and axis is not None else 2
        if (axis, count) != self._axis:
            self._axis = (axis, count)
            self.span.max = max(count - 1, 1)
            self.span.value = (0, max(count - 1, 1))

    def _offer_time(self) -> None:
        """Offer to follow objects where there may be time; where there is nothing but time, that is the choice."""
        image = self.interaction.image
        if image is not self._film:
            self._film = image
            self.report.value = NO_IMAGE if image is None else ""
            axis, sure = (None, False) if image is None else time_of(image)
            self._ways = [SEEDS, LINK] if axis is None else [SEEDS, LINK, FOLLOW]
            self.method.reset_choices()
            self.method.value = FOLLOW if sure else SEEDS
        following = self.method.value == FOLLOW
        self.span.enabled = not following
        self.run.text = FILM if following else STACK

    # ---------------------------------------------------------------- one slice

    def _search(self) -> None:
        interaction, on_screen = self.interaction, self.interaction.on_screen()
        if interaction.running is None or interaction.cache is None or on_screen is None:
            return
        search = SliceSearch(interaction.cache, on_screen.plane)

        def searched(_: Progress | None, stopped: bool) -> None:
            if stopped:
                interaction.said.emit("Stopped.")
                return
            self._found(on_screen, search.records)

        interaction.running.begin(search.steps(), "Looking at this slice…", searched)

    def _found(self, on_screen: OnScreen, records: list[MaskRecord]) -> None:
        self._forget()
        image = self.interaction.image
        if image is None:
            return
        active = self.interaction.viewer.layers.selection.active
        self._records = records
        self._shown = (on_screen, Proposals(self.interaction.viewer, image))
        self.interaction.viewer.layers.selection.active = active  # so that the next click is a prompt
        self._show()
        self._update()
        self.interaction.said.emit(f"{self.count.value}; nothing is kept yet.")

    def _show(self) -> None:
        """Choose again among what was found; the network is not asked."""
        session = self.interaction.session
        if self._shown is None or session is None:
            return
        on_screen, layer = self._shown
        kept = select(self._records, self.thresholds)
        layer.show(on_screen, label_image(kept, session.volume.plane_shape(on_screen.plane.axis)))
        self.count.value = f"{len(kept)} objects on this slice"

    def _keep(self) -> None:
        interaction, session = self.interaction, self.interaction.session
        if self._shown is None or session is None or interaction.running is None:
            return
        kept = select(self._records, self.thresholds)
        plane = self._shown[0].plane
        self._forget()
        interaction.running.begin(plane_steps(session, plane, kept), "Keeping drafts…", self._kept)

    def _kept(self, progress: Progress | None, stopped: bool) -> None:
        if isinstance(progress, AutomaticProgress):
            self.report.value = _summary(progress, stopped)
            self.interaction.said.emit(self.report.value)
        self._go_to_worst()

    def _moved(self) -> None:
        """Another slice is on screen: what was found on the last one is put away."""
        if self._shown is None:
            return
        on_screen = self.interaction.on_screen()
        if on_screen is not None and on_screen.plane != self._shown[0].plane:
            self._forget()
            self._update()

    def _forget(self) -> None:
        if self._shown is not None:
            self._shown[1].close()
        self._shown, self._records = None, []
        self.count.value = ""

    # ---------------------------------------------------------------- the stack

    def _run(self) -> None:
        interaction, on_screen = self.interaction, self.interaction.on_screen()
        session, cache = interaction.session, interaction.cache
        if session is None or cache is None or interaction.running is None or on_screen is None:
            return
        if on_screen.plane.axis is None:
            interaction.said.emit("A single image has no slices: keep what is found on it.")
            return
        self._forget()
        self.report.value = ""
        if self.method.value == FOLLOW:
            self._follow()
            return
        first, last = (int(v) for v in self.span.value)
        steps = stack_to_session(
            session,
            cache,
            axis=on_screen.plane.axis,
            t=on_screen.plane.t,
            start=first,
            stop=min(last + 1, session.volume.n_planes(on_screen.plane.axis)),
            thresholds=self.thresholds,
            links=LinkSettings(method="seeds" if self.method.value == SEEDS else "link"),
        )
        interaction.running.begin(steps, "Looking for objects in the stack…", self._kept)

    def _follow(self) -> None:
        interaction, on_screen = self.interaction, self.interaction.on_screen()
        session, cache, image = interaction.session, interaction.cache, interaction.image
        if session is None or cache is None or image is None or on_screen is None:
            return
        time, _ = time_of(image)
        if time is None or interaction.running is None:
            return
        following = Following(session, cache, time)

        def followed(progress: Progress | None, stopped: bool) -> None:
            if following.points is not None:
                show_tracks(
                    interaction.viewer, image, following.points, following.graph, time, on_screen.channel
                )
            self._kept(progress, stopped)

        interaction.running.begin(
            following.steps(thresholds=self.thresholds), "Following objects through time…", followed
        )

    def _progressed(self, progress: Progress | None, left: float | None) -> None:
        self._update()
        if isinstance(progress, AutomaticProgress) and progress.unit != "point":
            searched = "done" if progress.unit == "step" else "searched"
            what = searched if progress.plane is None else "written"
            time = "" if left is None else f", about {left:.0f} s left"
            self.report.value = f"{progress.done} of {progress.total} {progress.unit}s {what}{time}"

    def _go_to_worst(self) -> None:
        """Begin the review with the object that is least sure."""
        session, scene = self.interaction.session, self.interaction.scene
        if session is None or scene is None:
            return
        drafts = [o for o in session.objects.values() if o.scores and not o.done and not o.anchors]
        if drafts and self.interaction.on_screen() is not None:
            worst = min(drafts, key=lambda o: sum(o.scores.values()) / len(o.scores))
            self.interaction.select(worst.id)
            scene.go_to(worst.id)


def _summary(progress: AutomaticProgress, stopped: bool) -> str:
    if stopped:
        return "Stopped; the same button goes on from here."
    words = f"{progress.made} draft object{'s' * (progress.made != 1)}"
    if progress.left_out:
        words += f"; {progress.left_out} were labelled already"
    return f"{words}. The least sure is on screen." if progress.made else f"{words}."

"""A USD stage: the points, and the camera with its lens and path over time; y up."""

# pyright: reportAttributeAccessIssue=false, reportMissingImports=false
# pxr's names come from compiled modules, and the package is optional.

from pathlib import Path
from typing import Any

from torch import Tensor

from gen3r.cameras.camera import Cameras
from gen3r.cameras.conventions import opengl_to_opencv, world_axes
from gen3r.export.colours import linear_colours
from gen3r.export.selection import Selection
from gen3r.export.unit import unit_name
from gen3r.export.video import FRAMES_PER_SECOND
from gen3r.geometry.clouds import PointCloud

FOCAL_LENGTH = 24.0  # of every lens; the apertures follow from it


def write(selection: Selection, path: Path) -> None:
    """Writes a binary stage. Its unit is the metre; where the scene's is not known, the stage's documentation says so.

    Raises:
        OSError: the file cannot be written.
    """
    from pxr import Tf, Usd, UsdGeom

    scene = selection.scene
    stage = Usd.Stage.CreateInMemory()
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    stage.SetFramesPerSecond(FRAMES_PER_SECOND)
    stage.SetTimeCodesPerSecond(FRAMES_PER_SECOND)
    stage.SetStartTimeCode(0)
    stage.SetEndTimeCode(len(scene.frames) - 1)
    root = UsdGeom.Xform.Define(stage, "/scene").GetPrim()
    root.SetDocumentation(f"Made by Gen3R. Unit: {unit_name(scene)}.")
    stage.SetDefaultPrim(root)
    _add_points(stage, selection.cloud().moved(world_axes("opengl")))
    _add_camera(stage, scene.cameras)
    try:
        whole = stage.GetRootLayer().Export(str(path))
    except Tf.ErrorException as error:
        raise OSError("USD's writer failed") from error
    if not whole:
        raise OSError("USD's writer failed")


def _add_points(stage: Any, cloud: PointCloud) -> None:
    from pxr import Sdf, UsdGeom, Vt

    assert cloud.colours is not None
    assert cloud.widths is not None
    points = UsdGeom.Points.Define(stage, "/scene/points")
    places, widths = Vt.Vec3fArray.FromNumpy(cloud.points.numpy()), Vt.FloatArray.FromNumpy(cloud.widths.numpy())
    points.CreatePointsAttr(places)
    points.CreateWidthsAttr(widths)
    if len(cloud):
        points.CreateExtentAttr(UsdGeom.Points.ComputeExtent(places, widths))
    shown = UsdGeom.PrimvarsAPI(points).CreatePrimvar(
        "displayColor", Sdf.ValueTypeNames.Color3fArray, UsdGeom.Tokens.vertex
    )
    shown.Set(Vt.Vec3fArray.FromNumpy(linear_colours(cloud.colours).numpy()))


def _add_camera(stage: Any, cameras: Cameras) -> None:
    from pxr import Gf, UsdGeom

    camera = UsdGeom.Camera.Define(stage, "/scene/camera")
    camera.CreateFocalLengthAttr(FOCAL_LENGTH)
    place = camera.AddTransformOp()
    poses = opengl_to_opencv(world_axes("opengl") @ cameras.T_world_camera.double())
    for time, (T, K_px) in enumerate(zip(poses, cameras.K_px, strict=True)):
        place.Set(Gf.Matrix4d(T.T.tolist()), time)  # USD's points are rows
        for name, value in _apertures(K_px, cameras.height, cameras.width).items():
            camera.GetPrim().GetAttribute(name).Set(value, time)


def _apertures(K_px: Tensor, height: int, width: int) -> dict[str, float]:
    """The window through which a lens of `FOCAL_LENGTH` sees an image with these intrinsics."""
    (fx, _, cx), (_, fy, cy), _ = K_px.double().tolist()
    return {
        "horizontalAperture": FOCAL_LENGTH * width / fx,
        "verticalAperture": FOCAL_LENGTH * height / fy,
        "horizontalApertureOffset": FOCAL_LENGTH * (width / 2 - cx) / fx,
        "verticalApertureOffset": FOCAL_LENGTH * (cy - height / 2) / fy,
    }

"""DL3DV-10K."""

from gen3r.data.readers.transforms import Nerfstudio


class DL3DV(Nerfstudio):
    """DL3DV-10K (Ling et al., 2024).

    Tree: <batch>/<hash>/transforms.json with the images in images, images_2, images_4 or images_8, whichever package
    was downloaded; the file always says images/ and gives the intrinsics of the full size. Poses: camera-to-world,
    OpenGL axes. Lens: OpenCV's k1 k2 p1 p2, undone. Unit: COLMAP's. Depth: none.

    Licence: DL3DV terms of use with CC BY-NC 4.0; no redistribution.
    """

    name = "dl3dv"
    licence = "DL3DV terms of use with CC BY-NC 4.0; no redistribution"
    layout = "<batch>/<hash>/transforms.json with images_8, images_4 or images beside it"

"""The Universal Robots UR5e, 6 joints, with the same two-finger hand as the Panda.

Kinematics, masses and centres of mass are those that Universal Robots publish ("DH
parameters for calculations of kinematics and dynamics", article 45257), and inertias,
limits and link frames those of Universal_Robots_ROS2_Description (`config/ur5e`,
BSD-3-Clause), the tensors turned from its inertial frames into the link frames. Torques
are the article's "Max. joint torques": 150 N m for the three large joints, 28 for the
wrist. The shapes are primitives, drawn after the published lengths.

The base frame is the controller's: at joint1 = 0 the arm points along -x, so that it
works over the table with joint1 near pi.
"""

import dataclasses
import math

from jaxpolicy.sim.robots.description import Capsule, Joint, Link
from jaxpolicy.sim.robots.panda import PANDA

__all__ = ["UR5E"]

_X, _Y, _Z = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
_H, _TURN, _SPEED = math.pi / 2, 2 * math.pi, math.pi
_BLUE, _DARK = (0.49, 0.68, 0.8, 1.0), (0.28, 0.28, 0.3, 1.0)

UR5E = dataclasses.replace(
    PANDA,  # whose gripper it has
    name="ur5e",
    joints=(
        Joint((0.0, 0.0, 0.1625), 0.0, -_TURN, _TURN, _SPEED, 150.0, 4500.0, 200.0),
        Joint((0.0, 0.0, 0.0), _H, -_TURN, _TURN, _SPEED, 150.0, 4500.0, 200.0),
        Joint((-0.425, 0.0, 0.0), 0.0, -math.pi, math.pi, _SPEED, 150.0, 4500.0, 200.0),
        Joint((-0.3922, 0.0, 0.1333), 0.0, -_TURN, _TURN, _SPEED, 28.0, 2000.0, 60.0),
        Joint((0.0, -0.0997, 0.0), _H, -_TURN, _TURN, _SPEED, 28.0, 2000.0, 60.0),
        Joint((0.0, 0.0996, 0.0), -_H, -_TURN, _TURN, _SPEED, 28.0, 2000.0, 60.0),
    ),
    links=(
        Link(
            4.0,
            (0.0, 0.0, 0.025),
            (0.00443333, 0.00443333, 0.0072, 0.0, 0.0, 0.0),
            (Capsule((0.0, 0.0, 0.03), _Z, 0.07, 0.06, _DARK),),
        ),
        Link(
            3.761,
            (0.0, -0.00193, -0.02561),
            (0.0070021, 0.00657286, 0.00648091, 1.053e-05, 7.3e-07, -0.00049994),
            (
                Capsule((0.0, 0.0, -0.02), _Z, 0.06, 0.06),
                Capsule((0.0, -0.02, 0.0), _Y, 0.058, 0.04, _BLUE),
            ),
        ),
        Link(
            8.058,
            (-0.2125, 0.0, 0.11336),
            (0.01505885, 0.33388086, 0.33247207, -5.4e-05, 5.63e-06, -1.81e-06),
            (
                Capsule((0.0, 0.0, 0.12), _Z, 0.06, 0.06, _BLUE),
                Capsule((-0.2125, 0.0, 0.138), _X, 0.05, 0.36),
                Capsule((-0.425, 0.0, 0.1), _Z, 0.055, 0.07, _BLUE),
            ),
        ),
        Link(
            2.846,
            (-0.2422, 0.0, 0.0265),
            (0.00399632, 0.07879254, 0.0784851, -1.365e-05, 0.00137272, -6.6e-06),
            (
                Capsule((-0.2, 0.0, 0.007), _X, 0.042, 0.34),
                Capsule((-0.3922, 0.0, 0.03), _Z, 0.043, 0.06, _BLUE),
            ),
        ),
        Link(
            1.37,
            (0.0, -0.01634, -0.0018),
            (0.00165491, 0.00126279, 0.00135962, 4.38e-06, -2.82e-06, -0.00010157),
            (
                Capsule((0.0, 0.0, -0.01), _Z, 0.043, 0.03),
                Capsule((0.0, -0.03, 0.0), _Y, 0.043, 0.06, _BLUE),
            ),
        ),
        Link(
            1.3,
            (0.0, 0.01634, -0.0018),
            (0.00135617, 0.00096614, 0.00127827, 4.44e-06, 2.74e-06, 5.048e-05),
            (
                Capsule((0.0, 0.0, -0.01), _Z, 0.043, 0.03),
                Capsule((0.0, 0.03, 0.0), _Y, 0.043, 0.06, _BLUE),
            ),
        ),
        Link(
            0.365,
            (0.0, 0.0, -0.001159),
            (0.00018694, 0.00018908, 0.00025756, 6e-08, -1.7e-07, -9.2e-07),
            (Capsule((0.0, 0.0, -0.02), _Z, 0.037, 0.01),),
        ),
    ),
    hand_offset=0.0,
    hand_yaw=0.0,
    home=(2.87172902, -1.51003476, 1.94064909, -2.00141066, -1.57079633, -1.84065997),
)

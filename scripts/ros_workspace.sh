#!/usr/bin/env bash
# Builds this package for ROS 2 in a workspace of its own, whose virtual environment holds torch.
#
#   scripts/ros_workspace.sh [FOLDER]      FOLDER: where the workspace goes, default ros_ws
#
# Packages in FOLDER/src are built too.
# PYTHON names another interpreter than python3; it must be the one that ROS was built for.
set -eo pipefail # not -u: setup.bash of ROS reads unset variables

project="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
workspace="$(mkdir -p "${1:-$project/ros_ws}" && cd "${1:-$project/ros_ws}" && pwd)"
python="${PYTHON:-python3}"

say() { printf '%s\n' "$*" >&2; }

if [[ -z "${ROS_DISTRO:-}" ]]; then
  setups=(/opt/ros/*/setup.bash)
  if [[ ! -f "${setups[-1]}" ]]; then
    say "No ROS 2 found: there is no /opt/ros/*/setup.bash. Install ROS 2 (docs.ros.org), or source the" \
      "setup.bash of yours and run this again. Without ROS 2, 'make demo' and 'zgs run' work too."
    exit 1
  fi
  source "${setups[-1]}"
fi
if ! "$python" -c 'import rclpy'; then
  say "$python can't import rclpy of ROS 2 ${ROS_DISTRO:-}. Name the interpreter that your ROS uses:" \
    "PYTHON=/usr/bin/python3 make ros"
  exit 1
fi

touch "$workspace/COLCON_IGNORE" # the workspace may lie in another one's src/
venv="$workspace/venv"
[[ -x "$venv/bin/python" ]] || "$python" -m venv --system-site-packages "$venv"
touch "$venv/COLCON_IGNORE"
say "Installing the models' libraries into $venv"
pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check)
# cyclonedds, for `zgs camera` and the like, has no wheel for every machine; the node does without.
# colcon builds with setuptools up to 79.
"${pip[@]}" "$project[dds]" "setuptools<80" || "${pip[@]}" "$project" "setuptools<80"
"$venv/bin/python" -c 'import colcon_cmake, colcon_ros' 2>/dev/null ||
  "${pip[@]}" colcon-common-extensions

say "Building for ROS 2 $ROS_DISTRO"
shopt -s nullglob
cd "$workspace"
"$venv/bin/python" -m colcon build --paths "$project" "$workspace"/src/* \
  --cmake-args "-DPython3_EXECUTABLE=$venv/bin/python" -DBUILD_TESTING=OFF

cat <<END
Ready. In every new terminal:
  source $workspace/install/setup.bash
  ros2 launch zgs_ros segment.launch.py image_topic:=/camera/image_raw
END

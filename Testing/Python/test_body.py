"""The body among what else lies in a CT: a couch goes, whatever it is made of, and skin stays as the network saw it."""

from __future__ import annotations

import numpy as np
import pytest

from DeepDRRLogic.segmentation.body import clear_surroundings

SHAPE = (30, 90, 120)


def a_patient():
    """HU and labels: a trunk with a spine, and an arm beside it, thin but with a bone; air around."""
    hu, labels = np.full(SHAPE, -1000, np.int16), np.zeros(SHAPE, np.uint8)
    hu[:, 10:50, 30:80], labels[:, 10:50, 30:80] = 40, 1
    hu[:, 35:45, 50:60], labels[:, 35:45, 50:60] = 700, 2
    hu[:, 25:34, 95:104], labels[:, 25:34, 95:104] = 40, 1
    hu[:, 27:32, 97:102], labels[:, 27:32, 97:102] = 700, 2
    return hu, labels


@pytest.mark.parametrize("rail_hu", [2700, 3071])
def test_the_steel_rails_of_a_couch_are_no_bones(rail_hu):
    hu, patient = a_patient()
    hu[:, 70:73, 5:115] = -200
    hu[:, 68:76, 5:13] = hu[:, 68:76, 107:115] = rail_hu
    labels = np.where(hu > 2000, 2, np.where(hu == -200, 1, patient)).astype(np.uint8)
    clear_surroundings(labels, hu, (1.0, 1.0, 1.0), keep_table=False)
    np.testing.assert_array_equal(labels, patient)


def test_an_arm_with_a_ring_stays():
    hu, patient = a_patient()
    hu[10:13, 24:35, 94:105][patient[10:13, 24:35, 94:105] == 0] = 3071
    labels = np.where(hu == 3071, 2, patient).astype(np.uint8)
    expected = labels.copy()
    clear_surroundings(labels, hu, (1.0, 1.0, 1.0), keep_table=False)
    np.testing.assert_array_equal(labels, expected)


def test_the_skin_is_as_the_network_saw_it_whether_the_table_is_kept_or_not():
    hu, patient = a_patient()
    hu[:, 50:52, 30:80] = -300  # half skin, half air
    hu[:, 70:73, 5:115] = 40  # a couch
    found = []
    for keep_table in (False, True):
        labels = patient.copy()
        clear_surroundings(labels, hu, (1.0, 1.0, 1.0), keep_table=keep_table)
        found.append(labels)
    np.testing.assert_array_equal(found[0], patient)
    np.testing.assert_array_equal(found[1][:, :65], patient[:, :65])
    assert (found[1][:, 70:73, 5:115] == 1).all()
